//! One sweep without a worker, and what it leaves alone, as somebody may still hold it.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};

use super::Sweeper;
use crate::broker::redis::Queues;
use crate::broker::redis::script::texts;
use crate::broker::refusals::Refusals;
use crate::broker::{BrokerError, Swept};
use crate::config::Config;

impl Queues {
    /// Sweeps once.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn sweep(&self, config: &Config) -> Result<Swept, BrokerError> {
        let refusals = Arc::<Refusals>::default();
        let mut sweeper = Sweeper::new(
            self.clone(),
            config.broker_transport_options.visibility_timeout(),
            None,
            config.task_default_queue.clone(),
            Arc::clone(&refusals),
        );
        let restored = sweeper.sweep().await?;
        let unsettled = sweeper.unsettled().await?;
        let refused = refusals.all().iter().map(ToString::to_string).collect();
        Ok(Swept { restored, refused, ..unsettled })
    }
}

impl Sweeper {
    /// Returns what workers hold that may live, as far as the server tells.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] and [`BrokerError::Timeout`].
    async fn unsettled(&self) -> Result<Swept, BrokerError> {
        let now = self.clock.now();
        let mut ask = Pipeline::new();
        ask.cmd("ZRANGEBYSCORE").arg(&self.keys.inflight_index).arg(now).arg("+inf").arg("WITHSCORES");
        ask.cmd("ZCARD").arg(&self.keys.unacked_index);
        let replies = self.link.send(&mut ask).await?;
        let leases = texts(&replies[0]);
        let ends = leases.iter().skip(1).step_by(2).filter_map(|score| score.parse::<f64>().ok());
        let last = ends.reduce(f64::max);
        let unacked = if let Value::Int(count) = replies[1] { u64::try_from(count).unwrap_or(0) } else { 0 };
        Ok(Swept {
            workers: leases.len() as u64 / 2,
            lease: last.and_then(|end| Duration::try_from_secs_f64(end - now).ok()),
            unacked,
            ..Swept::default()
        })
    }
}
