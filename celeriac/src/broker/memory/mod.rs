//! A broker in the memory of this process, for tests: `memory://NAME`.
//!
//! All of one name are one server, which keeps the messages and the results, so that it commits both in one step.
//! `memory://NAME?limits=amqp` has no more than an AMQP broker: nothing is committed together with results, nobody counts
//! starts or keeps marks, and what a lost channel held comes back marked as redelivered.

mod consumer;
mod dead_letters;
mod exchange;
mod queue;
mod remote;
mod server;
mod state;

use std::sync::Arc;

pub(crate) use consumer::Consumer;
pub(crate) use remote::ReplyQueue;
pub(crate) use server::Server;
pub(crate) use state::{Answer, Sent, State, Write};

use super::{Batch, Start};
use crate::config::{Config, Url};
use crate::message::Message;

/// The queues and exchanges of one server in memory; cheap to clone.
#[derive(Clone)]
pub(crate) struct MemoryBroker {
    server: Arc<Server>,
    /// Whether messages that are given up are kept (`celeriac_dead_letter_queue`), and how many; 0 for no bound.
    dead_letters: Option<u64>,
}

impl MemoryBroker {
    /// The broker that a URL names, with the queues that the settings declare.
    pub(crate) fn new(url: &Url, config: &Config) -> Self {
        let server = Server::named(url);
        server.change(|state| {
            for queue in config.bound_queues() {
                state.bind(&queue.exchange, queue.exchange_type.as_str(), &queue.routing_key, &queue.name);
            }
        });
        let keeps = config.celeriac_dead_letter_queue.is_some();
        Self { server, dead_letters: keeps.then_some(config.celeriac_dead_letter_max_count) }
    }

    /// Returns the server that keeps the messages.
    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Returns the writes that publish messages.
    pub(crate) fn publications(messages: &[Message]) -> Vec<Write> {
        let publish = |message: &Message| {
            let message = message.clone();
            Write::doing(move |state| state.publish(&message))
        };
        messages.iter().map(publish).collect()
    }

    /// Returns how many messages wait in a queue.
    pub(crate) fn length(&self, queue: &str) -> u64 {
        self.server.read(|state| state.queues.get(queue).map_or(0, queue::Queue::len))
    }

    /// Returns the queues, and how many messages wait in each.
    pub(crate) fn lengths(&self) -> std::collections::BTreeMap<String, u64> {
        self.server
            .read(|state| state.queues.iter().map(|(name, queue)| (name.to_string(), queue.len())).collect())
    }

    /// Removes what waits in a queue and returns how many messages that were.
    pub(crate) fn purge(&self, queue: &str) -> u64 {
        self.server.change(|state| state.queues.get_mut(queue).map_or(0, queue::Queue::purge))
    }

    /// Binds a queue to an exchange.
    pub(crate) fn bind(&self, exchange: &str, exchange_type: &str, routing_key: &str, queue: &str) {
        self.server.change(|state| state.bind(exchange, exchange_type, routing_key, queue));
    }

    /// Notes a start of a message that came back and returns all that are known; `None` with the limits of AMQP.
    pub(crate) fn count_start(&self, delivery_tag: &str, start: &Start) -> Option<Vec<Start>> {
        (!self.server.has_limits_of_amqp()).then(|| {
            self.server.change(|state| {
                let now = state.now;
                let starts = state.starts.entry(delivery_tag.to_owned()).or_default();
                starts.push(Start { date: now.to_rfc3339(), ..start.clone() });
                starts.clone()
            })
        })
    }

    /// Returns the write that forgets the starts of a message that is done with.
    pub(crate) fn forget_starts(delivery_tag: &str) -> Write {
        let delivery_tag = delivery_tag.to_owned();
        Write::doing(move |state| drop(state.starts.remove(&delivery_tag)))
    }

    /// Notes which message brought a run of beat; `false` when it was another one.
    pub(crate) fn claim_run(&self, id: &str, delivery_tag: &str) -> bool {
        self.server.change(|state| {
            let tag = state.runs.entry(id.to_owned()).or_insert_with(|| delivery_tag.to_owned());
            tag == delivery_tag
        })
    }

    /// Returns the guard that marks a chord's body as sent, if nobody did; `None` with the limits of AMQP.
    pub(crate) fn mark_sent(&self, group_id: &str, delivery_tag: &str) -> Option<Write> {
        let mark = format!("{group_id} {delivery_tag}");
        let write = Write::new(move |state| Answer::Allowed(state.marks.insert(mark.clone())));
        (!self.server.has_limits_of_amqp()).then_some(write)
    }

    /// Returns the write that carries others out only if the guard allows it.
    pub(crate) fn guarded(guard: Batch, then: Batch) -> Batch {
        let (guards, then) = (guard.into_writes(), then.into_writes());
        let Some(guard) = guards.into_iter().next() else { return Batch::Memory(then) };
        let guarded = Write::new(move |state| {
            let answer = guard.apply(state);
            if !answer.forbids() {
                then.iter().for_each(|write| drop(write.apply(state)));
            }
            answer
        });
        guarded.into()
    }

    /// Whether that server is its own, and takes what is written to both in one step.
    pub(crate) fn joins(&self, server: &Arc<Server>) -> bool {
        !self.server.has_limits_of_amqp() && Arc::ptr_eq(&self.server, server)
    }

    /// Returns the place of a priority among those that wait: 0 is served first.
    pub(crate) fn rank(&self, priority: u8) -> u8 {
        self.server.read(|state| state.rank(priority))
    }
}

impl From<Write> for Batch {
    fn from(write: Write) -> Self {
        Self::Memory(vec![write])
    }
}

impl Batch {
    /// The writes to a server in memory.
    pub(crate) fn into_writes(self) -> Vec<Write> {
        match self {
            Self::Memory(writes) => writes,
            // A batch of another kind never comes here.
            _ => Vec::new(),
        }
    }
}
