//! Examining a broker: its server, and the queues and keys that lie there.

use std::collections::BTreeMap;
use std::time::Duration;

use super::any::Kind;
use super::{Broker, BrokerError, DeadLetterCount, redis};
use crate::finding::Finding;

/// The contents of a broker.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Messages and other things that have no owner.
    pub(crate) findings: Vec<Finding>,
    /// The queues that tasks are sent to, and how many messages wait in each.
    pub(crate) queues: BTreeMap<String, u64>,
}

impl Broker {
    /// Looks at the server, and for commands that a worker of that queue would need and this user may not use;
    /// `result_key` is the key of a record, if results are kept at the same place.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] and [`BrokerError::Timeout`].
    pub(crate) async fn examine(
        &self,
        queue: &str,
        result_key: Option<&str>,
    ) -> Result<Vec<Finding>, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => {
                let mut findings = redis::examine_server(queues.link()).await?;
                findings.extend(queues.examine_rights(queue, result_key).await?);
                Ok(findings)
            }
            #[cfg(feature = "testing")]
            Kind::Memory(_) => Ok(vec![Finding::note("server", "in memory: it ends with its process")]),
        }
    }

    /// Looks through what lies at the broker, for as long as `patience` lasts. A message that is held for longer than
    /// `visibility` counts as forgotten.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn survey(
        &self,
        visibility: Duration,
        patience: Duration,
    ) -> Result<Survey, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.survey(visibility, patience).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(Survey { queues: broker.lengths(), ..Survey::default() }),
        }
    }

    /// Counts the dead letters and drops none; `None` when none are kept.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn count_dead_letters(&self) -> Result<Option<DeadLetterCount>, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.count_dead_letters().await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(broker.dead_letter_count()),
        }
    }
}
