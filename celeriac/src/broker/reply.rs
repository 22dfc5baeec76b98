//! Reply queues, of whichever broker.

use tokio::time::Instant;

#[cfg(feature = "testing")]
use super::memory;
use super::{BrokerError, redis};
use crate::message::Message;

/// The place where answers to a request are expected.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ReplyAddress {
    /// The exchange to which answers are published.
    pub(crate) exchange: String,
    /// Their routing key, which is the client's own.
    pub(crate) routing_key: String,
}

impl ReplyAddress {
    /// Returns the name of the queue that kombu's clients bind for their answers.
    pub(crate) fn queue(&self) -> String {
        format!("{}.{}", self.routing_key, self.exchange)
    }
}

/// Opens reply queues for a client; cheap to clone.
#[derive(Clone)]
pub(crate) enum ReplyQueues {
    Redis(redis::ReplyQueues),
    #[cfg(feature = "testing")]
    Memory(memory::MemoryBroker),
}

/// A queue for the answers to one request; removed also when its owner does not wait to the end.
pub(crate) enum ReplyQueue {
    Redis(Box<redis::ReplyQueue>),
    #[cfg(feature = "testing")]
    Memory(memory::ReplyQueue),
}

impl ReplyQueues {
    /// Opens a reply queue and broadcasts the request whose answers it takes. Returns the queue, and how many nodes
    /// listen to the request, `None` where the broker cannot tell.
    ///
    /// The queue exists before anybody hears the request: no answer is lost. It is removed by [`ReplyQueue::close`], or
    /// when it is dropped.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`]; the queue is then removed.
    pub(crate) async fn ask(
        &self,
        address: ReplyAddress,
        request: &Message,
    ) -> Result<(ReplyQueue, Option<u64>), BrokerError> {
        match self {
            ReplyQueues::Redis(queues) => {
                let (queue, listeners) = queues.ask(address, request).await?;
                Ok((ReplyQueue::Redis(Box::new(queue)), listeners))
            }
            #[cfg(feature = "testing")]
            ReplyQueues::Memory(broker) => {
                let (queue, listeners) = broker.ask(address, request);
                Ok((ReplyQueue::Memory(queue), Some(listeners)))
            }
        }
    }
}

impl ReplyQueue {
    /// Returns the next answer; `None` when none has come until the deadline. An answer that is no message is logged and
    /// passed over.
    ///
    /// Not cancel safe: an answer may be lost.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn next(&mut self, deadline: Instant) -> Result<Option<Message>, BrokerError> {
        match self {
            ReplyQueue::Redis(queue) => queue.next(deadline).await,
            #[cfg(feature = "testing")]
            ReplyQueue::Memory(queue) => Ok(queue.next(deadline).await),
        }
    }

    /// Removes the queue, and now and then those that crashed clients left behind.
    pub(crate) async fn close(self) {
        match self {
            ReplyQueue::Redis(queue) => (*queue).close().await,
            #[cfg(feature = "testing")]
            ReplyQueue::Memory(queue) => drop(queue),
        }
    }
}
