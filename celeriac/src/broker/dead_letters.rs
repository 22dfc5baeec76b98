//! The messages that were given up, at a broker of whichever kind.

#[cfg(feature = "testing")]
use super::memory::MemoryBroker;
use super::{BrokerError, DeadLetter, redis};

/// The fate of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Keep,
    /// Its message goes back to the queue that it came from, byte by byte as it was delivered; one that was too large to be
    /// kept stays.
    Requeue,
    /// It is removed for good.
    Drop,
}

/// The messages that the workers of a broker have given up; see [`Broker::dead_letters`](super::Broker::dead_letters).
pub struct DeadLetters(pub(super) Kind);

/// The kinds of brokers that keep them.
pub(super) enum Kind {
    Redis(redis::DeadLetters),
    #[cfg(feature = "testing")]
    Memory(MemoryBroker),
}

impl DeadLetters {
    /// Returns all of them, the newest first.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub async fn list(&self) -> Result<Vec<DeadLetter>, BrokerError> {
        match &self.0 {
            Kind::Redis(letters) => letters.list().await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(broker.dead_letters()),
        }
    }

    /// Returns how many there are.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub async fn count(&self) -> Result<u64, BrokerError> {
        match &self.0 {
            Kind::Redis(letters) => letters.count().await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(broker.dead_letters().len() as u64),
        }
    }

    /// Puts one message back where it came from, byte by byte as it was delivered; `false` when it is not there or was too
    /// large to be kept. For several, see [`DeadLetters::sift`].
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub async fn requeue(&self, id: &str) -> Result<bool, BrokerError> {
        match &self.0 {
            Kind::Redis(letters) => letters.requeue(id).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(broker.sift_dead_letters(one(id, Fate::Requeue), |_| ()) > 0),
        }
    }

    /// Removes one message for good; `false` when it is not there. For several, see [`DeadLetters::sift`].
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub async fn drop(&self, id: &str) -> Result<bool, BrokerError> {
        match &self.0 {
            Kind::Redis(letters) => letters.drop(id).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(broker.sift_dead_letters(one(id, Fate::Drop), |_| ()) > 0),
        }
    }

    /// Decides on each of those that there are now, the oldest first, so that they are queued again in their order, and
    /// returns how many do not stay. `progress` is told how many of them were decided on.
    ///
    /// Somebody else may add and remove some meanwhile; the order of those that stay is kept unless this is cancelled in
    /// the middle.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`]. What was dealt with before
    /// stays so.
    pub async fn sift(
        &self,
        decide: impl FnMut(&DeadLetter) -> Fate,
        progress: impl FnMut(u64),
    ) -> Result<u64, BrokerError> {
        match &self.0 {
            Kind::Redis(letters) => letters.sift(decide, progress).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(broker.sift_dead_letters(decide, progress)),
        }
    }
}

/// Returns the decision on one letter, which keeps all others.
#[cfg(feature = "testing")]
fn one(id: &str, fate: Fate) -> impl FnMut(&DeadLetter) -> Fate {
    move |letter| if letter.id == id { fate } else { Fate::Keep }
}
