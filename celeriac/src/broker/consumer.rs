//! A consumer of whichever kind of broker.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

#[cfg(feature = "testing")]
use super::memory;
use super::refusals::Refusals;
use super::{BrokerError, Receiver, redis};

/// How a consumer is set up; the rest its broker finds in the settings.
pub(crate) struct ConsumerOptions {
    /// An id of this worker's run, which no other has.
    pub(crate) worker: String,
    /// The queues to consume from at first.
    pub(crate) queues: Vec<Arc<str>>,
    /// Node name.
    pub(crate) hostname: String,
    /// Where it is noted what the server refuses.
    pub(crate) refusals: Arc<Refusals>,
}

/// The loop that fetches messages, hands them to a receiver and settles them.
pub(crate) enum Consumer<R> {
    /// Of a Redis server.
    Redis(Box<redis::Consumer<R>>),
    /// Of a server in memory.
    #[cfg(feature = "testing")]
    Memory(memory::Consumer<R>),
}

impl<R: Receiver> Consumer<R> {
    /// Consumes until `stop_fetching`, and settles what is settled until `finish`.
    ///
    /// # Errors
    /// [`BrokerError::GaveUp`] when the broker is not to be tried again; `stop_fetching` is cancelled then.
    pub(crate) async fn run(
        self,
        stop_fetching: CancellationToken,
        finish: CancellationToken,
    ) -> Result<(), BrokerError> {
        match self {
            Self::Redis(consumer) => consumer.run(stop_fetching, finish).await,
            #[cfg(feature = "testing")]
            Self::Memory(consumer) => consumer.run(stop_fetching, finish).await,
        }
    }
}
