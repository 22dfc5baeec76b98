//! How runs leave: the seam between the scheduler and a client of the broker.

use crate::entry::{Outcome, Run};

/// The header that marks a message of beat (`celery/beat.py`, celery 5.7; sample `beat/sent_message.json`).
pub const BEAT_HEADER: &str = "celery_beat_task";

/// Sends runs to the broker.
pub trait Publish: Send + Sync {
    /// Sends the task message of a run, with the run's id as its task id and the header [`BEAT_HEADER`]; a run that was
    /// sent before is not sent again, where the broker can tell.
    ///
    /// # Errors
    /// When the broker did not take it; the run is then sent again later, unless the failure is permanent.
    fn publish(&self, run: &Run) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// How a run ended, as far as anybody knows.
    fn outcome(&self, run: &uuid::Uuid) -> impl Future<Output = Outcome> + Send {
        let _ = run;
        std::future::ready(Outcome::Unknown)
    }
}

/// The broker did not take a message.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct PublishError {
    cause: Box<dyn std::error::Error + Send + Sync>,
    is_permanent: bool,
}

impl PublishError {
    /// A failure that may pass by itself: the run is sent again later.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { cause: cause.into(), is_permanent: false }
    }

    /// A failure that stays until the entry is another one.
    pub fn permanent(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { cause: cause.into(), is_permanent: true }
    }

    /// Whether it stays until the entry is another one.
    pub fn is_permanent(&self) -> bool {
        self.is_permanent
    }
}
