//! Publishing, and what can be asked of queues.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value, cmd};

use super::bindings::{matching_queues, topic_pattern};
use super::restore::texts;
use super::{Keys, Link};
use crate::broker::BrokerError;
use crate::message::{Message, envelope};

/// The queues and exchanges of one broker database.
#[derive(Clone)]
pub struct Queues {
    link: Link,
    keys: Arc<Keys>,
    fanout_exchanges: Arc<[String]>,
}

impl Queues {
    /// Queues over that link; messages to `fanout_exchanges` go to whoever listens.
    pub fn new(link: Link, keys: Arc<Keys>, fanout_exchanges: &[String]) -> Self {
        Self { link, keys, fanout_exchanges: fanout_exchanges.into() }
    }

    /// The link that is used.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The names of the keys.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Publishes messages, each to where its `delivery_info` says, in one transaction.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] (then it is unknown whether they were published) and [`BrokerError::Refused`].
    pub async fn publish(&self, messages: &[Message]) -> Result<(), BrokerError> {
        let mut commands = Pipeline::new();
        for command in self.publish_commands(messages).await? {
            commands.add_command(command);
        }
        if commands.len() > 1 {
            commands.atomic();
        }
        if !commands.is_empty() {
            self.link.call(&mut commands).await?;
        }
        Ok(())
    }

    /// The commands that publish messages, each to where its `delivery_info` says.
    ///
    /// # Errors
    /// Those of reading an exchange's bindings.
    pub(crate) async fn publish_commands(&self, messages: &[Message]) -> Result<Vec<Cmd>, BrokerError> {
        let mut commands = Vec::with_capacity(messages.len());
        for message in messages {
            let info = &message.properties.delivery_info;
            if info.exchange.is_empty() {
                commands.push(self.push(&info.routing_key, message));
            } else if self.fanout_exchanges.contains(&info.exchange) {
                let raw = envelope::encode(message);
                for channel in self.keys.fanout_channels(&info.exchange, &info.routing_key) {
                    let mut publish = cmd("PUBLISH");
                    publish.arg(channel).arg(&raw);
                    commands.push(publish);
                }
            } else {
                let queues = self.route(&info.exchange, &info.routing_key).await?;
                if queues.is_empty() {
                    log::error!(exchange = info.exchange.as_str(), routing_key = info.routing_key.as_str(); "Message dropped: no queue is bound to exchange {:?} with routing key {:?}", info.exchange, info.routing_key);
                }
                commands.extend(queues.iter().map(|queue| self.push(queue, message)));
            }
        }
        Ok(commands)
    }

    fn push(&self, queue: &str, message: &Message) -> Cmd {
        let mut push = cmd("LPUSH");
        push.arg(self.keys.queue(queue, message.properties.priority.unwrap_or(0)))
            .arg(envelope::encode(message));
        push
    }

    async fn route(&self, exchange: &str, routing_key: &str) -> Result<Vec<String>, BrokerError> {
        let mut read = Pipeline::new();
        read.cmd("SMEMBERS").arg(self.keys.bindings(exchange));
        let found = self.link.call(&mut read).await?;
        Ok(matching_queues(&self.keys, &texts(&found[0]), routing_key))
    }

    /// Binds a queue to an exchange for good, as kombu 5.7 does when it declares a queue.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn bind(
        &self,
        exchange: &str,
        exchange_type: &str,
        routing_key: &str,
        queue: &str,
    ) -> Result<(), BrokerError> {
        let pattern = if exchange_type == "topic" { topic_pattern(routing_key) } else { String::new() };
        let member = self.keys.binding(routing_key, &pattern, queue);
        let mut bind = Pipeline::new();
        bind.atomic();
        bind.cmd("SADD").arg(self.keys.bindings(exchange)).arg(&member);
        bind.cmd("SADD").arg(self.keys.permanent_bindings(exchange)).arg(&member);
        self.link.call(&mut bind).await.map(drop)
    }

    /// How many messages wait in a queue, over all priorities.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn length(&self, queue: &str) -> Result<u64, BrokerError> {
        let mut read = Pipeline::new();
        for key in self.keys.queue_steps(queue) {
            read.cmd("LLEN").arg(key);
        }
        Ok(sum(&self.link.call(&mut read).await?))
    }

    /// Removes all messages that wait in a queue and returns how many there were.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn purge(&self, queue: &str) -> Result<u64, BrokerError> {
        let mut purge = Pipeline::new();
        purge.atomic();
        for key in self.keys.queue_steps(queue) {
            purge.cmd("LLEN").arg(&key);
            purge.cmd("DEL").arg(&key).ignore();
        }
        Ok(sum(&self.link.call(&mut purge).await?))
    }
}

fn sum(replies: &[Value]) -> u64 {
    replies
        .iter()
        .map(|reply| if let Value::Int(length) = reply { u64::try_from(*length).unwrap_or(0) } else { 0 })
        .sum()
}
