//! Broadcasting and listening: remote control, events and broadcast queues.

use std::sync::Arc;

use redis::{Pipeline, Value};

use super::Queues;
use crate::broker::{BrokerError, Subscription};
use crate::message::Message;

impl Queues {
    /// Publishes a message to every node that listens to its exchange now. Returns how many do, `None` where the broker
    /// cannot tell. A node that does not listen at this moment never hears it.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker cannot be reached or refuses.
    pub(crate) async fn broadcast(&self, message: &Message) -> Result<Option<u64>, BrokerError> {
        self.broadcast_after(Pipeline::new(), message).await
    }

    /// Does the same after other commands in the same round trip.
    pub(super) async fn broadcast_after(
        &self,
        mut first: Pipeline,
        message: &Message,
    ) -> Result<Option<u64>, BrokerError> {
        for command in self.publish_commands(std::slice::from_ref(message)).await? {
            first.add_command(command);
        }
        let replies = self.link().call(&mut first).await?;
        // A node of a cluster counts only its own listeners, and one that listens to two channels is counted twice.
        if self.link().endpoint().is_cluster() || self.keys().fanout_repeats() {
            return Ok(None);
        }
        Ok(Some(match replies.last() {
            Some(Value::Int(listeners)) => u64::try_from(*listeners).unwrap_or(0),
            _ => 0,
        }))
    }

    /// Listens to exchanges, each with a routing key in which `#` stands for anything. Returns once the broker has
    /// confirmed it, or after the first attempt that failed. The subscription reconnects by itself; it does not get what
    /// is broadcast while the broker is away.
    pub(crate) async fn subscribe(&self, topics: &[(&str, &str)]) -> Subscription {
        let patterns = topics.iter().flat_map(|(exchange, key)| self.keys().fanout_patterns(exchange, key));
        Subscription::open(self.link(), patterns.collect(), self.keys().fanout_repeats()).await
    }

    /// Returns the same broker over connections of its own, for use in another runtime.
    pub(crate) fn sibling(&self) -> Self {
        self.over(self.link().sibling(), Arc::clone(self.keys()))
    }
}
