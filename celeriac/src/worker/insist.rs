//! Calls to a server that are repeated until they succeed, are refused for good, or the worker ends.

use std::time::Duration;

use redis::{Cmd, Value as Reply};

use super::runtime::Runtime;
use crate::backend::redis::{Apart, RedisBackend};
use crate::backoff::Backoff;
use crate::broker::BrokerError;
use crate::broker::redis::{arguments, largest};
use crate::broker::refusal::{self, Refusal, RefusalKind};

/// How often a call is refused before it is given up: once may be chance.
const REFUSALS: u32 = 3;
/// How long after a refusal that may last the call is made again.
const AGAIN: Duration = Duration::from_millis(250);
/// How often a connection breaks over commands before they are given up.
const BREAKS: u32 = 3;
/// The same for small commands, since connections break for other reasons too.
const BREAKS_OF_SMALL: u32 = 8;
/// How many bytes in one argument are no longer small.
const SMALL: usize = 64 << 10;

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
    pub(super) async fn insist<T: Default, F: Future<Output = Result<T, BrokerError>>>(
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
    pub(super) async fn try_insist<T, F: Future<Output = Result<T, BrokerError>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T, Uncommitted> {
        let mut attempts = Attempts::default();
        loop {
            match call().await {
                Ok(value) => return Ok(value),
                Err(error) => attempts.refused(self, &error).await?,
            }
        }
    }

    /// Carries out commands at the result backend, all or nothing, until that succeeds.
    ///
    /// # Errors
    /// Why they were given up. Where a connection breaks each time that they are sent over one of their own, they are
    /// what breaks it.
    pub(super) async fn store(
        &self,
        backend: &RedisBackend,
        commands: &[Cmd],
    ) -> Result<Vec<Reply>, Uncommitted> {
        let mut commands = commands.to_vec();
        let largest = largest(&commands).map_or(0, |(_, bytes)| bytes);
        let most = if largest > SMALL { BREAKS } else { BREAKS_OF_SMALL };
        let (mut attempts, mut breaks, mut broke) = (Attempts::default(), 0, false);
        loop {
            let outcome = match broke {
                false => Apart::Answered(backend.run(commands.clone()).await),
                true => backend.run_apart(commands.clone()).await,
            };
            match outcome {
                Apart::Answered(Ok(replies)) => return Ok(replies),
                Apart::Answered(Err(error)) => {
                    broke = matches!(error, BrokerError::Connection { .. });
                    match attempts.refused(self, &error).await {
                        // Nobody hears of it, but it is stored: who waits for it looks too.
                        Err(Uncommitted::Refused { refusal, .. }) if refusal.command == "PUBLISH" => {
                            commands.retain(|command| arguments(command).next() != Some(b"PUBLISH"));
                            attempts = Attempts::default();
                        }
                        outcome => outcome?,
                    }
                }
                Apart::Broke { error, limit } => {
                    breaks += 1;
                    let limit = limit.filter(|limit| largest as u64 > *limit);
                    if limit.is_some() || breaks >= most {
                        let BrokerError::Connection { source, .. } = &error else { continue };
                        let refusal = Refusal::closed(&commands, source, limit);
                        self.consumer.troubles().note(&refusal);
                        return Err(Uncommitted::Refused { refusal, limit });
                    }
                    attempts.refused(self, &error).await?;
                }
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
    async fn refused(&mut self, runtime: &Runtime, error: &BrokerError) -> Result<(), Uncommitted> {
        let refusal = Refusal::from_error(error);
        let lasts = match error {
            BrokerError::Refused { reason, .. } => refusal::kind(reason) == RefusalKind::Lasting,
            // What cannot be read now will not be readable later.
            BrokerError::Protocol(_) => return Err(refusal.into()),
            _ => false,
        };
        self.refusals += u32::from(lasts);
        if self.refusals >= REFUSALS {
            return Err(refusal.into());
        }
        runtime.consumer.troubles().note(&refusal);
        let pause = if lasts { AGAIN } else { self.backoff.next() };
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = runtime.hurry.cancelled() => Err(Uncommitted::Ending(refusal)),
        }
    }
}
