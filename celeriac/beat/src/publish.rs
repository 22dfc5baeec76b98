//! How runs leave: the seam between the scheduler and a client of the broker.

use crate::entry::Run;

/// The header that marks a message of beat (`celery/beat.py`, celery 5.7; sample `beat/sent_message.json`).
pub const BEAT_HEADER: &str = "celery_beat_task";

/// Sends runs to the broker.
pub trait Publish: Send + Sync {
    /// Sends the task message of a run, with the run's id as its task id and the header [`BEAT_HEADER`].
    ///
    /// # Errors
    /// When the broker did not take it; the run is then sent again later.
    fn publish(&self, run: &Run) -> impl Future<Output = Result<(), PublishError>> + Send;
}

/// The broker did not take a message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PublishError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl PublishError {
    /// Wraps what the client said.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}
