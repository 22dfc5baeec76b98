//! What a sweep leaves alone, as somebody may still hold it.

use std::time::Duration;

use redis::{Pipeline, Value};

use super::Sweeper;
use crate::broker::BrokerError;
use crate::broker::redis::script::texts;

/// What a sweep leaves alone.
pub(crate) struct Unsettled {
    /// Workers whose lease has not ended.
    pub(crate) workers: u64,
    /// The time until the last of these leases ends.
    pub(crate) lease: Option<Duration>,
    /// Messages in `unacked`.
    pub(crate) unacked: u64,
}

impl Sweeper {
    /// Returns what workers hold that may live, as far as the server tells.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] and [`BrokerError::Timeout`].
    pub(crate) async fn unsettled(&self) -> Result<Unsettled, BrokerError> {
        let now = self.clock.now();
        let mut ask = Pipeline::new();
        ask.cmd("ZRANGEBYSCORE").arg(&self.keys.inflight_index).arg(now).arg("+inf").arg("WITHSCORES");
        ask.cmd("ZCARD").arg(&self.keys.unacked_index);
        let replies = self.link.send(&mut ask).await?;
        let leases = texts(&replies[0]);
        let ends = leases.iter().skip(1).step_by(2).filter_map(|score| score.parse::<f64>().ok());
        let last = ends.reduce(f64::max);
        let unacked = if let Value::Int(count) = replies[1] { u64::try_from(count).unwrap_or(0) } else { 0 };
        Ok(Unsettled {
            workers: leases.len() as u64 / 2,
            lease: last.and_then(|end| Duration::try_from_secs_f64(end - now).ok()),
            unacked,
        })
    }
}
