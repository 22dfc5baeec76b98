//! What a broker says about itself, and about what lies in it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::any::Kind;
use super::{Broker, BrokerError, DeadLetterCount, redis};
use crate::backend::Backend;
use crate::finding::Finding;

/// What lies at a broker.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Messages and other things that have no owner.
    pub(crate) findings: Vec<Finding>,
    /// The queues that tasks are sent to, and how many messages wait in each.
    pub(crate) queues: BTreeMap<String, u64>,
}

impl Broker {
    /// Looks at the server, and for commands that a worker of that queue would need and this user may not use.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] and [`BrokerError::Timeout`].
    pub(crate) async fn examine(
        &self,
        queue: &str,
        backend: Option<&Backend>,
    ) -> Result<Vec<Finding>, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => {
                let mut findings = redis::examine_server(queues.link()).await?;
                let results = backend
                    .filter(|backend| self.holds_results(backend))
                    .and_then(|backend| Some(backend.redis()?.task_key("doctor")));
                findings.extend(queues.examine_rights(queue, results.as_deref()).await?);
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

    /// Whether results are kept by the same server, maybe in another database.
    pub(crate) fn shares_server(&self, backend: &Backend) -> bool {
        match &self.kind {
            Kind::Redis(queues) => {
                let is_beside = queues.results().selection().is_some();
                backend.redis().is_some() && (is_beside || self.holds_results(backend))
            }
            #[cfg(feature = "testing")]
            Kind::Memory(_) => true,
        }
    }
}
