//! What remote control, events and probes ask of a broker.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::any::Kind;
use super::{Broker, BrokerError, ReplyAddress, ReplyQueues, Subscription, redis};
use crate::message::Message;

/// The bounds of the revocations that a broker keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RevocationBounds {
    /// Largest number of ids, and of stamps; the oldest give way.
    pub(crate) count: usize,
    /// How long each is kept.
    pub(crate) age: Duration,
}

/// The revocations that a broker keeps, each with its Unix time in seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptRevocations {
    pub(crate) ids: Vec<(String, f64)>,
    pub(crate) stamps: Vec<(String, f64)>,
}

/// Bindings of some of our queues under names that this node does not use, each with those queues.
#[derive(Debug, Default)]
pub(crate) struct ForeignBindings {
    /// By the prefix of all names (`global_keyprefix`).
    pub(crate) prefixes: BTreeMap<String, BTreeSet<String>>,
    /// By the separator within names (`sep`), under our own prefix.
    pub(crate) separators: BTreeMap<String, BTreeSet<String>>,
}

/// The broker that a node is connected to, under the names of `celery inspect stats`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BrokerDescription {
    /// Name of the transport.
    pub(crate) transport: &'static str,
    /// Host of the server that is used now.
    pub(crate) hostname: String,
    /// Its port.
    pub(crate) port: u16,
    /// The part of the server that is used: a database, a virtual host.
    pub(crate) virtual_host: String,
}

/// Broadcasting, listening and answering.
impl Broker {
    /// Publishes a message to every node that listens to its exchange now. Returns how many do, `None` where the broker
    /// cannot tell. A node that does not listen at this moment never hears it.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn broadcast(&self, message: &Message) -> Result<Option<u64>, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.broadcast(message).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(Some(broker.broadcast(message))),
        }
    }

    /// Listens to exchanges, each with a routing key in which `#` stands for anything. Returns once the broker has
    /// confirmed it, or after the first attempt that failed. The subscription reconnects by itself; it does not get what
    /// is broadcast while the broker is away.
    pub(crate) async fn subscribe(&self, topics: &[(&str, &str)]) -> Subscription {
        match &self.kind {
            Kind::Redis(queues) => queues.subscribe(topics).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => broker.subscribe(topics),
        }
    }

    /// Returns the reply queues of a client.
    pub(crate) fn reply_queues(&self) -> ReplyQueues {
        match &self.kind {
            Kind::Redis(queues) => ReplyQueues::Redis(redis::ReplyQueues::new(queues.clone())),
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => ReplyQueues::Memory(broker.clone()),
        }
    }

    /// Publishes an answer to a reply queue; one that nobody waits for any more is dropped.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn answer(&self, address: &ReplyAddress, message: &Message) -> Result<(), BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.answer(address, message).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => {
                broker.answer(address, message);
                Ok(())
            }
        }
    }

    /// Returns the same broker over connections of its own, for use in another runtime.
    pub(crate) fn sibling(&self) -> Self {
        match &self.kind {
            Kind::Redis(queues) => Self { kind: Kind::Redis(queues.sibling()) },
            #[cfg(feature = "testing")]
            Kind::Memory(_) => self.clone(),
        }
    }
}

/// Revocations that outlive workers.
impl Broker {
    /// Keeps ids of revoked tasks, as of now.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn keep_revoked(
        &self,
        ids: &[String],
        bounds: RevocationBounds,
    ) -> Result<(), BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.keep_revoked(ids, bounds).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => {
                broker.keep_revoked(ids, bounds);
                Ok(())
            }
        }
    }

    /// Keeps ids of revoked tasks, and then broadcasts the request that revokes them. Returns how many nodes hear it, as
    /// [`Broker::broadcast`] does.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn broadcast_revocation(
        &self,
        ids: &[String],
        bounds: RevocationBounds,
        request: &Message,
    ) -> Result<Option<u64>, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.broadcast_revocation(ids, bounds, request).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => {
                broker.keep_revoked(ids, bounds);
                Ok(Some(broker.broadcast(request)))
            }
        }
    }

    /// Keeps revoked stamps, as of now.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn keep_revoked_stamps(
        &self,
        stamps: &[String],
        bounds: RevocationBounds,
    ) -> Result<(), BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.keep_revoked_stamps(stamps, bounds).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => {
                broker.keep_revoked_stamps(stamps, bounds);
                Ok(())
            }
        }
    }

    /// Dates the revocation of an id back to that Unix time, if it is kept with a later one, so that it is forgotten
    /// sooner.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn date_back_revoked(&self, id: &str, revoked_at: f64) -> Result<(), BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.date_back_revoked(id, revoked_at).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => {
                broker.date_back_revoked(id, revoked_at);
                Ok(())
            }
        }
    }

    /// Returns what was revoked at or after that Unix time.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn revoked_since(&self, since: f64) -> Result<KeptRevocations, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.revoked_since(since).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(broker.revoked_since(since)),
        }
    }
}

/// Health, and traces of other workers.
impl Broker {
    /// Describes the server that is used now.
    pub(crate) fn describe(&self) -> BrokerDescription {
        match &self.kind {
            Kind::Redis(queues) => queues.describe(),
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => broker.describe(),
        }
    }

    /// Returns how long the broker takes to answer; `None` if it answers that it refuses everything for now.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] and [`BrokerError::Timeout`].
    pub(crate) async fn ping(&self) -> Result<Option<Duration>, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.ping().await,
            #[cfg(feature = "testing")]
            Kind::Memory(_) => Ok(Some(Duration::ZERO)),
        }
    }

    /// Returns how many messages wait in each of those queues, over all priorities; `None` if the broker answers that it
    /// refuses everything for now. A queue of which it does not tell counts as empty.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] and [`BrokerError::Timeout`].
    pub(crate) async fn lengths(&self, queues: &[String]) -> Result<Option<Vec<u64>>, BrokerError> {
        match &self.kind {
            Kind::Redis(redis) => redis.lengths(queues).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(Some(queues.iter().map(|queue| broker.length(queue)).collect())),
        }
    }

    /// Drops the dead letters that are beyond the bounds, and counts what is left; `None` when none are kept.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn trim_dead_letters(&self) -> Result<Option<DeadLetterCount>, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.trim_dead_letters().await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(broker.dead_letter_count()),
        }
    }

    /// Looks for bindings of those queues under other names at the same broker, within limits.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn foreign_bindings(&self, queues: &[String]) -> Result<ForeignBindings, BrokerError> {
        match &self.kind {
            Kind::Redis(redis) => redis.foreign_bindings(queues).await,
            #[cfg(feature = "testing")]
            Kind::Memory(_) => Ok(ForeignBindings::default()),
        }
    }

    /// Returns the prefix of all names at the broker (`global_keyprefix`).
    pub(crate) fn prefix(&self) -> &str {
        match &self.kind {
            Kind::Redis(queues) => queues.prefix(),
            #[cfg(feature = "testing")]
            Kind::Memory(_) => "",
        }
    }

    /// Returns the separator within names at the broker (`sep`).
    pub(crate) fn separator(&self) -> &str {
        match &self.kind {
            Kind::Redis(queues) => queues.separator(),
            #[cfg(feature = "testing")]
            Kind::Memory(_) => "",
        }
    }

    /// Returns the same broker as a node with another prefix sees it.
    pub(crate) fn under(&self, prefix: &str) -> Self {
        match &self.kind {
            Kind::Redis(queues) => Self { kind: Kind::Redis(queues.under(prefix)) },
            #[cfg(feature = "testing")]
            Kind::Memory(_) => self.clone(),
        }
    }
}

/// How many dead letters there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeadLetterCount {
    pub(crate) count: u64,
    /// Bytes at the server; `None` where it does not say.
    pub(crate) bytes: Option<u64>,
    /// How many were dropped now, since they were beyond a bound.
    pub(crate) dropped: u64,
}
