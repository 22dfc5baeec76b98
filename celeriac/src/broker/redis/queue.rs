//! Publishing, and what can be asked of queues.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, Value, cmd};

use super::bindings::{matching_queues, member};
use super::lists::Lists;
use super::script::texts;
use super::selection::{APART, Results};
use super::{Commands, DeadLetterQueue, Endpoint, Keys, KeysOptions, Link, Timing};
use crate::broker::BrokerError;
use crate::broker::refusal::code;
use crate::config::{BoundQueue, Config, Url};
use crate::message::{Message, envelope};

/// The queues and exchanges of one broker database.
#[derive(Clone)]
pub struct Queues {
    link: Link,
    keys: Arc<Keys>,
    fanout_exchanges: Arc<[String]>,
    /// The exchanges of the queues that the application declares, and their members of the sets of bindings.
    declared: Arc<[(String, String)]>,
    /// When the lists of a queue expire (`x-expires`).
    expirations: Arc<HashMap<String, Duration>>,
    /// Where messages go that are given up; `None` drops them.
    dead_letters: Option<DeadLetterQueue>,
    pub(super) lists: Lists,
    /// Where results are.
    results: Results,
}

impl Queues {
    /// Queues over that link; messages to `fanout_exchanges` go to whoever listens.
    pub fn new(link: Link, keys: Arc<Keys>, fanout_exchanges: &[String]) -> Self {
        Self {
            link,
            keys,
            fanout_exchanges: fanout_exchanges.into(),
            declared: Arc::default(),
            expirations: Arc::default(),
            dead_letters: None,
            lists: Lists::default(),
            results: Results::default(),
        }
    }

    /// The queues at a URL under those settings; nothing is connected yet.
    ///
    /// # Errors
    /// [`BrokerError::BadUrl`] and [`BrokerError::BadTls`].
    pub(crate) fn open(url: &Url, config: &Config) -> Result<Self, BrokerError> {
        let endpoint = Endpoint::broker(url, config)?;
        let keys = Arc::new(Keys::new(KeysOptions::new(config), endpoint.database()));
        let mut fanout = config.fanout_exchanges();
        fanout.extend([format!("{}.pidbox", config.control_exchange), config.event_exchange.clone()]);
        let queues = Self::new(Link::new(endpoint, Timing::broker(config)), Arc::clone(&keys), &fanout)
            .declaring(config.bound_queues())
            .expiring(config.queue_expirations());
        Ok(Self { dead_letters: DeadLetterQueue::new(config, &keys), ..queues })
    }

    /// The queues of an application with that result backend, if it has one, at that Redis, if it is one.
    pub(crate) fn beside(self, backend: Option<Option<&Endpoint>>) -> Self {
        let results = match backend {
            None => Results::Here,
            Some(None) => Results::Elsewhere,
            Some(Some(results)) => Results::of(self.link.endpoint(), results),
        };
        Self { results, ..self }
    }

    /// Where results are.
    pub(crate) fn results(&self) -> &Results {
        &self.results
    }

    /// Asks whether one transaction reaches the results, unless that is known.
    pub(crate) async fn ask_to_join_results(&self) {
        if let Some(selection) = self.results.selection().filter(|selection| selection.is_unknown()) {
            // Over a connection of its own, which may be left in another database.
            match self.link.sibling().send(&mut selection.question()).await {
                Ok(answer) => match selection.note_answer(&answer) {
                    Ok(None) => {}
                    Ok(Some(reason)) => self.tell_unselected(&reason),
                    Err(error) => {
                        log::debug!(error; "It is not known whether one transaction reaches broker and results: {error}")
                    }
                },
                Err(BrokerError::Connection { .. }) => selection.note_break(),
                // What cannot be asked now is asked the next time.
                Err(_) => {}
            }
        }
    }

    fn tell_unselected(&self, reason: &str) {
        log::warn!(broker:% = self.link.endpoint(), code = code(reason); "One transaction cannot reach broker and results: {APART} ({reason})");
    }

    /// Where messages go that are given up.
    pub(crate) fn dead_letters(&self) -> Option<&DeadLetterQueue> {
        self.dead_letters.as_ref()
    }

    /// The same for an application that declares those queues.
    pub(crate) fn declaring(mut self, queues: impl IntoIterator<Item = BoundQueue>) -> Self {
        let member = |queue: BoundQueue| {
            let member = self.binding(queue.exchange_type.as_str(), &queue.routing_key, &queue.name);
            (queue.exchange, member)
        };
        self.declared = queues.into_iter().map(member).collect();
        self
    }

    /// The same with queues whose lists expire that long after the last message to them, as kombu 5.7 does it.
    pub(crate) fn expiring(mut self, expirations: HashMap<String, Duration>) -> Self {
        self.expirations = expirations.into();
        self
    }

    /// The same over another link, or with other names of keys.
    pub(super) fn over(&self, link: Link, keys: Arc<Keys>) -> Self {
        Self { link, keys, ..self.clone() }
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
    /// If it is cancelled, all messages may have been sent all the same, or none.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] (then it is unknown whether they were published) and [`BrokerError::Refused`].
    pub async fn publish(&self, messages: &[Message]) -> Result<(), BrokerError> {
        let commands = self.publish_commands(messages).await?;
        self.carry_out(commands.into()).await.map(drop)
    }

    /// Carries out commands, all or none, and returns their replies.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] and [`BrokerError::Timeout`] (then it is unknown whether they were carried out), and
    /// [`BrokerError::Refused`].
    pub(crate) async fn carry_out(&self, commands: Commands) -> Result<Vec<Value>, BrokerError> {
        let Commands { broker, results, .. } = commands;
        let selection = self.results.selection().filter(|_| !results.is_empty());
        let mut pipeline = Pipeline::new();
        if selection.is_some() || broker.len() + results.len() > 1 {
            pipeline.atomic();
        }
        let broker_count = broker.len();
        for command in broker {
            pipeline.add_command(command);
        }
        let places = [broker_count, broker_count + results.len()];
        if let Some(selection) = selection {
            pipeline.add_command(selection.to_results());
        }
        for command in results {
            pipeline.add_command(command);
        }
        if let Some(selection) = selection {
            pipeline.add_command(selection.to_broker());
        }
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let mut outcome = self.link.call(&mut pipeline).await;
        if let Some(selection) = selection {
            match &mut outcome {
                Err(BrokerError::Refused { command, reason, .. }) if command == "SELECT" => {
                    selection.refuse();
                    self.tell_unselected(reason);
                    // It may be in the wrong database.
                    self.link.forget_connection();
                }
                Ok(replies) => places.into_iter().for_each(|place| drop(replies.remove(place))),
                Err(_) => {}
            }
        }
        outcome
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
                self.push(&info.routing_key, message, &mut commands);
            } else if self.fanout_exchanges.contains(&info.exchange) {
                let raw = envelope::encode(message);
                for channel in self.keys.fanout_channels(&info.exchange, &info.routing_key) {
                    let mut publish = Cmd::with_capacity(3, raw.len() + channel.len() + 16);
                    publish.arg("PUBLISH").arg(channel).arg(&raw);
                    commands.push(publish);
                }
            } else {
                let queues = self.route(&info.exchange, &info.routing_key).await?;
                if queues.is_empty() {
                    log::error!(exchange = info.exchange.as_str(), routing_key = info.routing_key.as_str(); "Message dropped: no queue is bound to exchange {:?} with routing key {:?}", info.exchange, info.routing_key);
                }
                queues.iter().for_each(|queue| self.push(queue, message, &mut commands));
            }
        }
        Ok(commands)
    }

    fn push(&self, queue: &str, message: &Message, commands: &mut Vec<Cmd>) {
        let mut push = cmd("LPUSH");
        push.arg(self.keys.queue(queue, message.properties.priority.unwrap_or(0)))
            .arg(envelope::encode(message));
        commands.push(push);
        // Source: `_put` in `kombu/transport/redis.py`, kombu 5.7.
        if let Some(time) = self.expirations.get(queue) {
            for key in self.keys.queue_steps(queue) {
                let mut expire = cmd("PEXPIRE");
                expire.arg(key).arg(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                commands.push(expire);
            }
        }
    }

    /// The queues to which an exchange leads with a routing key.
    ///
    /// # Errors
    /// [`BrokerError`] when the server cannot be reached or refuses the command.
    pub(crate) async fn route(&self, exchange: &str, routing_key: &str) -> Result<Vec<String>, BrokerError> {
        let mut read = Pipeline::new();
        read.cmd("SMEMBERS").arg(self.keys.bindings(exchange));
        let mut members = texts(&self.link.call(&mut read).await?[0]);
        if members.is_empty() {
            members = self.rebind(exchange).await?;
        }
        Ok(matching_queues(&self.keys, &members, routing_key))
    }

    /// Makes the bindings of an exchange again that were deleted or evicted: the permanent ones, and those of the queues
    /// that the application declares. Returns what there is then.
    async fn rebind(&self, exchange: &str) -> Result<Vec<String>, BrokerError> {
        let [all, permanent] = [self.keys.bindings(exchange), self.keys.permanent_bindings(exchange)];
        let mut read = Pipeline::new();
        read.cmd("SMEMBERS").arg(&permanent);
        let mut members = texts(&self.link.call(&mut read).await?[0]);
        let declared = self.declared.iter().filter(|(name, _)| name == exchange);
        members.extend(declared.map(|(_, member)| member.clone()));
        if members.is_empty() {
            return Ok(members);
        }
        let mut rebind = Pipeline::new();
        rebind.atomic();
        rebind.cmd("SADD").arg(&all).arg(&members);
        rebind.cmd("SADD").arg(&permanent).arg(&members);
        rebind.cmd("SMEMBERS").arg(&all);
        let replies = self.link.call(&mut rebind).await?;
        log::warn!(exchange; "The bindings of exchange {exchange:?} were gone: they are made again");
        Ok(replies.last().map(texts).unwrap_or_default())
    }

    /// The member of an exchange's set of bindings for a queue.
    pub(crate) fn binding(&self, exchange_type: &str, routing_key: &str, queue: &str) -> String {
        member(&self.keys, exchange_type, routing_key, queue)
    }

    /// Binds a queue to an exchange for good, as kombu 5.7 does when it declares a queue.
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// [`BrokerError`] when the server cannot be reached or refuses the command.
    pub async fn bind(
        &self,
        exchange: &str,
        exchange_type: &str,
        routing_key: &str,
        queue: &str,
    ) -> Result<(), BrokerError> {
        let member = self.binding(exchange_type, routing_key, queue);
        let mut bind = Pipeline::new();
        bind.atomic();
        bind.cmd("SADD").arg(self.keys.bindings(exchange)).arg(&member);
        bind.cmd("SADD").arg(self.keys.permanent_bindings(exchange)).arg(&member);
        self.link.call(&mut bind).await.map(drop)
    }

    /// How many messages wait in a queue, over all priorities.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// [`BrokerError`] when the server cannot be reached or refuses the command.
    pub async fn length(&self, queue: &str) -> Result<u64, BrokerError> {
        let mut read = Pipeline::new();
        for key in self.keys.queue_steps(queue) {
            read.cmd("LLEN").arg(key);
        }
        Ok(sum(&self.link.call(&mut read).await?))
    }

    /// Removes all messages that wait in a queue and returns how many there were.
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// [`BrokerError`] when the server cannot be reached or refuses the command.
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
