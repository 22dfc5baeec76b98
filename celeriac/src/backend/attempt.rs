//! Writes that are tried again until the server takes them or it is clear that it never will.

#[cfg(feature = "testing")]
use super::memory::MemoryBackend;
use super::{BackendError, redis};
use crate::broker::Answers;
#[cfg(feature = "testing")]
use crate::broker::Batch;
use crate::broker::refusal::Refusal;

/// An attempt at carrying writes out, all or none, which can be repeated.
pub(crate) enum Attempt {
    /// At a Redis server.
    Redis(redis::Attempt),
    /// At a server in memory.
    #[cfg(feature = "testing")]
    Memory(MemoryBackend, Batch),
}

/// Why writes were not carried out this time.
#[derive(Debug)]
pub(crate) enum NotCarriedOut {
    /// It may be tried again.
    Error(BackendError),
    /// The server breaks the connection over these writes each time.
    Hopeless {
        /// The write to blame.
        refusal: Refusal,
        /// The most bytes that the server takes as one argument, if that is the reason.
        limit: Option<u64>,
    },
}

impl Attempt {
    /// Tries once.
    ///
    /// # Errors
    /// [`NotCarriedOut::Error`] and [`NotCarriedOut::Hopeless`].
    pub(crate) async fn once(&mut self) -> Result<Answers, NotCarriedOut> {
        match self {
            Self::Redis(attempt) => attempt.once().await,
            #[cfg(feature = "testing")]
            Self::Memory(backend, batch) => Ok(backend.carry_out(batch.clone())),
        }
    }

    /// Leaves out the write that the server refuses if the others mean as much without it; whether it does.
    pub(crate) fn do_without(&mut self, refusal: &Refusal) -> bool {
        match self {
            Self::Redis(attempt) => attempt.do_without(refusal),
            #[cfg(feature = "testing")]
            Self::Memory(..) => false,
        }
    }
}
