//! Calls to a server that are repeated until they succeed, are refused for good, or the worker ends.

use std::time::Duration;

use super::runtime::Runtime;
use crate::app::Error;
use crate::backend::{Backend, BackendError, NotCarriedOut};
use crate::backoff::Backoff;
use crate::broker::refusal::{self, Refusal, RefusalKind};
use crate::broker::{Answers, Batch, BrokerError};

/// How often a call is refused before it is given up: once may be chance.
const REFUSALS: u32 = 3;
/// How long after a refusal that may last the call is made again.
const AGAIN: Duration = Duration::from_millis(250);

/// Why something was not committed.
#[derive(Clone, Debug)]
pub(crate) enum Uncommitted {
    /// The server refuses it each time.
    Refused {
        /// What it said.
        refusal: Refusal,
        /// The most bytes that it takes as one argument, if that is the reason.
        limit: Option<u64>,
    },
    /// The worker ends while the server does not take it.
    Ending(Refusal),
}

impl From<Refusal> for Uncommitted {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { refusal, limit: None }
    }
}

impl Runtime {
    /// Repeats a call until it succeeds; nothing when it is refused for good.
    pub(super) async fn insist<T: Default, E: Into<Error>, F: Future<Output = Result<T, E>>>(
        &self,
        call: impl Fn() -> F,
    ) -> T {
        self.try_insist(call).await.unwrap_or_else(|uncommitted| {
            let (Uncommitted::Refused { refusal, .. } | Uncommitted::Ending(refusal)) = uncommitted;
            log::error!(code = refusal.code(); "Given up: {refusal}");
            T::default()
        })
    }

    /// Repeats a call until it succeeds.
    ///
    /// # Errors
    /// Why it was given up.
    pub(super) async fn try_insist<T, E: Into<Error>, F: Future<Output = Result<T, E>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T, Uncommitted> {
        let mut attempts = Attempts::default();
        loop {
            match call().await {
                Ok(value) => return Ok(value),
                Err(error) => attempts.refused(self, &error.into()).await?,
            }
        }
    }

    /// Carries out writes at the result backend, all or none, until that succeeds.
    ///
    /// # Errors
    /// Why they were given up.
    pub(super) async fn store(&self, backend: &Backend, batch: &Batch) -> Result<Answers, Uncommitted> {
        if batch.is_empty() {
            return Ok(Answers::default());
        }
        let mut attempt = backend.attempt(batch.clone());
        let mut attempts = Attempts::default();
        loop {
            match attempt.once().await {
                Ok(answers) => return Ok(answers),
                Err(NotCarriedOut::Hopeless { refusal, limit }) => {
                    self.consumer.troubles().note(&refusal);
                    return Err(Uncommitted::Refused { refusal, limit });
                }
                Err(NotCarriedOut::Error(error)) => match attempts.refused(self, &error.into()).await {
                    Err(Uncommitted::Refused { refusal, .. }) if attempt.do_without(&refusal) => {
                        attempts = Attempts::default();
                    }
                    outcome => outcome?,
                },
            }
        }
    }
}

/// What has become of the attempts at one call.
#[derive(Default)]
struct Attempts {
    backoff: Backoff,
    refusals: u32,
}

impl Attempts {
    /// Notes that an attempt failed, and waits for the time of the next.
    ///
    /// # Errors
    /// There is to be none.
    async fn refused(&mut self, runtime: &Runtime, error: &Error) -> Result<(), Uncommitted> {
        let refusal = refusal_of(error);
        // A record that cannot be read now will not be readable later.
        if matches!(
            error,
            Error::Broker(BrokerError::Protocol(_)) | Error::Backend(BackendError::Unreadable { .. })
        ) {
            return Err(refusal.into());
        }
        let lasts = error.code().is_some_and(|code| refusal::kind(code) == RefusalKind::Lasting);
        self.refusals += u32::from(lasts);
        if self.refusals >= REFUSALS {
            return Err(refusal.into());
        }
        runtime.consumer.troubles().note(&refusal);
        let pause = if lasts { AGAIN } else { self.backoff.next() };
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = runtime.life.hurry.cancelled() => Err(Uncommitted::Ending(refusal)),
        }
    }
}

/// Returns the refusal that an error of the broker or the result backend tells of.
fn refusal_of(error: &Error) -> Refusal {
    match error {
        Error::Broker(BrokerError::Refused { command, reason, .. })
        | Error::Backend(BackendError::Refused { command, reason, .. }) => Refusal::of_words(command, reason),
        error => Refusal::unknown(error.to_string()),
    }
}
