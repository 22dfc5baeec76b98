//! Examining an application: its broker, its result backend, its workers and what lies between them.

mod fleet;
mod queues;
mod settings;
mod visibility;

use std::fmt::Display;
use std::time::Duration;

use crate::backend::BackendError;
use crate::broker::BrokerError;
use crate::finding::Finding;
use crate::{Celery, Result};
use fleet::Fleet;

/// The time that an examination may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The time that workers have to answer a ping, and each question after it.
    pub workers: Duration,
    /// The time for looking through keys, at the broker and again at the result backend.
    pub keys: Duration,
}

impl Default for Patience {
    /// Returns 2 s for workers and 10 s for keys.
    fn default() -> Self {
        Self { workers: Duration::from_secs(2), keys: Duration::from_secs(10) }
    }
}

impl Celery {
    /// Examines the application as `celeriac doctor` does: the servers, what they keep and throw away, their clocks, the
    /// rights of the user, the settings of all workers, tasks that outlast the visibility timeout, queues without
    /// workers, dead letters, and keys without an owner. Nothing is changed.
    ///
    /// The findings come in the order in which things were looked at.
    ///
    /// Cancel safe: it only asks, and removes its reply queues all the same.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker) when the broker or the result backend cannot be reached. A right that is
    /// missing to look at something is a finding.
    ///
    /// ```no_run
    /// # async fn example() -> celeriac::Result<()> {
    /// use celeriac::{Celery, Severity};
    ///
    /// let findings = Celery::from_env("proj")?.examine(Default::default()).await?;
    /// for finding in findings.iter().filter(|finding| finding.severity >= Severity::Warning) {
    ///     println!("{}: {}", finding.subject, finding.text);
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn examine(&self, patience: Patience) -> Result<Vec<Finding>> {
        let (broker, config, backend) = (self.broker(), self.config(), self.result_backend());
        let result_key = backend.and_then(|backend| backend.key_at(broker));
        let mut findings = broker.examine(&config.task_default_queue, result_key.as_deref()).await?;
        if let Some(backend) = backend.filter(|backend| !backend.shares_server(broker)) {
            findings.extend(backend.examine().await?);
        }
        let fleet = match Fleet::ask(self, patience.workers).await {
            Ok(fleet) => {
                findings.push(fleet.presence());
                Some(fleet)
            }
            Err(error @ BrokerError::Refused { .. }) => {
                findings.push(unseen("workers", error));
                None
            }
            Err(error) => return Err(error.into()),
        };
        let is_known = fleet.is_some();
        let fleet = fleet.unwrap_or_default();
        findings.extend(settings::examine(&fleet));
        findings.extend(settings::foreign(broker, &fleet).await?);
        findings.extend(visibility::examine(&fleet, self.clock().now()));
        let visibility = fleet.longest_visibility(config.broker_transport_options.visibility_timeout());
        match broker.survey(visibility, patience.keys).await {
            Ok(survey) => {
                if is_known {
                    findings.extend(queues::unread(&survey.queues, &fleet));
                }
                findings.extend(survey.findings);
            }
            Err(error @ BrokerError::Refused { .. }) => findings.push(unseen("keys", error)),
            Err(error) => return Err(error.into()),
        }
        match queues::dead_letters(broker, config).await {
            Ok(found) => findings.extend(found),
            Err(error @ BrokerError::Refused { .. }) => findings.push(unseen("dead letters", error)),
            Err(error) => return Err(error.into()),
        }
        if let Some(backend) = backend {
            match backend.survey(patience.keys).await {
                Ok(found) => findings.extend(found),
                Err(error @ BackendError::Refused { .. }) => findings.push(unseen("results", error)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(findings)
    }
}

/// The finding that something may not be looked at.
fn unseen(subject: &'static str, refusal: impl Display) -> Finding {
    Finding::note(subject, format!("not looked at: {refusal}"))
}
