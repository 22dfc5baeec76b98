//! One sweep without a worker: what dead workers held goes back.

use std::time::Duration;

use super::any::Kind;
use super::{Broker, BrokerError};
use crate::config::Config;

/// The messages that one sweep brought back, and those that it left alone as somebody may still hold them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Swept {
    /// Messages that went back to their queues.
    pub(crate) restored: u64,
    /// The queues or keys whose messages could not go back: one sentence with the reason for each.
    pub(crate) refused: Vec<String>,
    /// Workers whose lease has not ended.
    pub(crate) workers: u64,
    /// The time until the last of these leases ends.
    pub(crate) lease: Option<Duration>,
    /// Messages that workers hold or that wait for their eta, as far as the broker records them.
    pub(crate) unacked: u64,
}

impl Broker {
    /// Sweeps once.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn sweep(&self, config: &Config) -> Result<Swept, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.sweep(config).await,
            // The messages that a consumer held come back when it ends.
            #[cfg(feature = "testing")]
            Kind::Memory(_) => Ok(Swept::default()),
        }
    }
}
