//! Asking a broker how it is: whether it answers, how much waits in its queues, and where it is.

use std::time::{Duration, Instant};

use redis::{Pipeline, Value};

use super::{Queues, refuses_everything};
use crate::broker::{BrokerDescription, BrokerError};

impl Queues {
    /// Describes the server that is used now.
    pub(crate) fn describe(&self) -> BrokerDescription {
        let endpoint = self.link().endpoint();
        let (hostname, port) = endpoint.address();
        BrokerDescription {
            transport: "redis",
            hostname,
            port,
            virtual_host: endpoint.database().to_string(),
        }
    }

    /// Returns how long the broker takes to answer; `None` if it answers that it refuses everything for now.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker cannot be reached.
    pub(crate) async fn ping(&self) -> Result<Option<Duration>, BrokerError> {
        let asked = Instant::now();
        let mut ping = Pipeline::new();
        ping.cmd("PING");
        let answers = self.link().send(&mut ping).await?;
        Ok((!answers.iter().any(refuses_everything)).then(|| asked.elapsed()))
    }

    /// Returns how many messages wait in each of those queues, over all priorities; `None` if the broker answers that it
    /// refuses everything for now. A queue of which it does not tell counts as empty.
    ///
    /// Each is counted only if anything waits at all: an idle worker is to cost the broker little.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker cannot be reached.
    pub(crate) async fn lengths(&self, queues: &[String]) -> Result<Option<Vec<u64>>, BrokerError> {
        if queues.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let lists: Vec<Vec<String>> = queues.iter().map(|name| self.keys().queue_steps(name)).collect();
        let mut any = Pipeline::new();
        any.cmd("EXISTS").arg(lists.concat());
        // A server that refuses to tell of one of them may tell of the others.
        let found = self.link().send(&mut any).await?;
        if found.iter().any(refuses_everything) {
            return Ok(None);
        }
        if found.first().is_none_or(|found| *found == Value::Int(0)) {
            return Ok(Some(vec![0; queues.len()]));
        }
        let mut each = Pipeline::new();
        for list in lists.iter().flatten() {
            each.cmd("LLEN").arg(list);
        }
        let replies = self.link().send(&mut each).await?;
        let steps = self.keys().steps().max(1);
        Ok(Some(replies.chunks(steps).map(|steps| steps.iter().map(length).sum()).collect()))
    }
}

fn length(reply: &Value) -> u64 {
    match reply {
        Value::Int(length) => u64::try_from(*length).unwrap_or(0),
        _ => 0,
    }
}
