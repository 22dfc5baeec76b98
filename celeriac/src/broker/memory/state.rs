//! What a server in memory keeps.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::exchange::Exchange;
use super::queue::{Held, Queue};
use super::remote::Revoked;
use crate::broker::{DeadLetter, Start};
use crate::message::{Message, envelope};

/// A change of the state, which may be repeated.
#[derive(Clone)]
pub(crate) struct Write(Arc<dyn Fn(&mut State) -> Answer + Send + Sync>);

/// The answer to a write.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// Whether it was allowed, and done.
    Allowed(bool),
    /// Something that only the one who made the write can read.
    Other(Arc<dyn Any + Send + Sync>),
}

impl Answer {
    /// Whether a guard forbids what stands behind it.
    pub(crate) fn forbids(&self) -> bool {
        matches!(self, Self::Allowed(false))
    }
}

impl Write {
    pub(crate) fn new(write: impl Fn(&mut State) -> Answer + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    /// Returns a write that is always done.
    pub(crate) fn doing(write: impl Fn(&mut State) + Send + Sync + 'static) -> Self {
        Self::new(move |state| {
            write(state);
            Answer::Done
        })
    }

    pub(crate) fn apply(&self, state: &mut State) -> Answer {
        (self.0)(state)
    }
}

impl std::fmt::Debug for Write {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Write")
    }
}

/// A message that was published, kept for those who look at what was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// The queue that it came to.
    pub(crate) queue: String,
    pub(crate) message: Message,
    pub(crate) at: DateTime<Utc>,
}

/// Everything that one server keeps.
pub(crate) struct State {
    /// The time at which the present change is made.
    pub(crate) now: DateTime<Utc>,
    /// Whether the highest priority is served first, as in AMQP.
    highest_first: bool,
    pub(crate) queues: HashMap<String, Queue>,
    pub(super) exchanges: HashMap<String, Exchange>,
    /// What each channel holds, by the number of the delivery.
    pub(super) channels: BTreeMap<u64, BTreeMap<u64, Held>>,
    channels_opened: u64,
    pub(crate) dead_letters: Vec<DeadLetter>,
    /// The starts of messages that came back, by delivery tag.
    pub(crate) starts: HashMap<String, Vec<Start>>,
    /// The chords of which the body was sent.
    pub(crate) marks: HashSet<String>,
    /// The messages that brought runs of beat, by their task ids.
    pub(crate) runs: HashMap<String, String>,
    pub(crate) revoked: Revoked,
    pub(crate) revoked_stamps: Revoked,
    /// What a result backend keeps here, once there is one.
    results: Option<Box<dyn Any + Send>>,
    pub(crate) sent: Vec<Sent>,
}

impl State {
    pub(crate) fn new(now: DateTime<Utc>, highest_first: bool) -> Self {
        Self {
            now,
            highest_first,
            queues: HashMap::new(),
            exchanges: HashMap::new(),
            channels: BTreeMap::new(),
            channels_opened: 0,
            dead_letters: Vec::new(),
            starts: HashMap::new(),
            marks: HashSet::new(),
            runs: HashMap::new(),
            revoked: Revoked::default(),
            revoked_stamps: Revoked::default(),
            results: None,
            sent: Vec::new(),
        }
    }

    /// Returns the place of a priority, 0 for what is served first.
    pub(crate) fn rank(&self, priority: u8) -> u8 {
        rank(self.highest_first, priority)
    }

    /// Publishes a message to where its `delivery_info` says.
    pub(crate) fn publish(&mut self, message: &Message) {
        let to = &message.properties.delivery_info;
        let queues = if to.exchange.is_empty() {
            vec![to.routing_key.clone()]
        } else {
            self.broadcast(&to.exchange, &to.routing_key, message)
        };
        let raw = Bytes::from(envelope::encode(message));
        let rank = self.rank(message.properties.priority.unwrap_or(0));
        for queue in queues {
            let sent = Sent { queue: queue.clone(), message: message.clone(), at: self.now };
            if message.headers.task.is_some() {
                self.sent.push(sent);
            }
            self.queues.entry(queue).or_default().push(rank, raw.clone());
        }
    }

    /// Gives the messages of an exchange to its subscribers, and returns the queues that it leads to.
    fn broadcast(&mut self, exchange: &str, routing_key: &str, message: &Message) -> Vec<String> {
        let entry = self.exchanges.entry(exchange.to_owned()).or_default();
        let heard = entry.tell(routing_key, message);
        let queues = entry.queues(routing_key);
        if queues.is_empty() && !heard && message.headers.task.is_some() {
            log::error!(exchange, routing_key; "Message dropped: no queue is bound to exchange {exchange:?} with routing key {routing_key:?}");
        }
        queues
    }

    /// Opens a channel, which may hold messages.
    pub(crate) fn open_channel(&mut self) -> u64 {
        self.channels_opened += 1;
        self.channels.insert(self.channels_opened, BTreeMap::new());
        self.channels_opened
    }

    /// Closes a channel: what it holds goes back to the head of its queue, in its old order, marked as redelivered.
    pub(crate) fn close_channel(&mut self, channel: u64) {
        for (_, held) in self.channels.remove(&channel).unwrap_or_default().into_iter().rev() {
            self.restore(held);
        }
    }

    /// Whether nothing waits, is held, or is put aside.
    pub(crate) fn is_quiet(&self) -> bool {
        self.queues.values().all(Queue::is_empty) && self.channels.values().all(BTreeMap::is_empty)
    }

    /// Returns the time, and what a result backend of that type keeps here; nothing is kept at first.
    pub(crate) fn kept<T: Default + Send + 'static>(&mut self) -> (DateTime<Utc>, &mut T) {
        if !self.results.as_ref().is_some_and(|results| results.is::<T>()) {
            self.results = Some(Box::new(T::default()));
        }
        let results = self.results.as_mut().and_then(|results| results.downcast_mut());
        (self.now, results.unwrap_or_else(|| unreachable!("it was put there in the lines above")))
    }
}

/// Returns the place of a priority, 0 for what is served first: the lowest, as kombu's, or the highest, as in AMQP.
pub(crate) fn rank(highest_first: bool, priority: u8) -> u8 {
    if highest_first { u8::MAX - priority } else { priority }
}
