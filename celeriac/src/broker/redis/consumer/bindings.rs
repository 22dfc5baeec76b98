//! The bindings of the queues that are consumed from: made again when somebody deletes them, or the server evicts them.
//!
//! The server announces each change of a set that was read over this connection, so nothing is asked while nothing
//! changes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Pipeline, Value};

use super::Consumer;
use crate::broker::redis::Keys;
use crate::broker::redis::bindings::{matching_queues, member};
use crate::broker::redis::connection::server_error;
use crate::broker::redis::exchange::is_full;
use crate::broker::redis::script::texts;
use crate::broker::refusals::Work;
use crate::broker::{Binding, Receiver};

/// How many replies there are to what is written of one exchange.
pub(super) const REPLIES: usize = 4;

/// How often the bindings of one exchange are written, at most.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// All bindings, by their exchange.
#[derive(Default)]
pub(super) struct Bindings {
    exchanges: Vec<Exchange>,
    /// The queues that were consumed from when the bindings were last sorted out.
    queues: Arc<[Arc<str>]>,
}

struct Exchange {
    name: String,
    /// The set of all its bindings and that of the permanent ones.
    sets: [String; 2],
    bindings: Vec<(Arc<str>, String)>,
    /// Whether the sets have them, as far as the server has told.
    is_sure: bool,
    written: Option<Instant>,
}

impl Exchange {
    fn of(name: &str, keys: &Keys) -> Self {
        let sets = [keys.bindings(name), keys.permanent_bindings(name)];
        Self { name: name.to_owned(), sets, bindings: Vec::new(), is_sure: false, written: None }
    }

    /// Whether that is the name of one of its sets.
    fn has(&self, key: &Value) -> bool {
        matches!(key, Value::BulkString(key) if self.sets.iter().any(|set| set.as_bytes() == key.as_slice()))
    }

    /// How long it is until the bindings may be written again.
    fn pause(&self) -> Duration {
        self.written.map_or(Duration::ZERO, |written| WRITE_EVERY.saturating_sub(written.elapsed()))
    }
}

impl Bindings {
    /// Keeps those bindings, too.
    pub(super) fn keep(&mut self, bindings: Vec<Binding>, keys: &Keys) {
        if !bindings.is_empty() {
            self.queues = Arc::default();
        }
        for Binding { queue, exchange, exchange_type, routing_key } in bindings {
            let member = member(keys, &exchange_type, &routing_key, &queue);
            let table = keys.bindings(&exchange);
            let known = self.exchanges.iter().position(|known| known.sets[0] == table);
            let at = known.unwrap_or_else(|| {
                self.exchanges.push(Exchange::of(&exchange, keys));
                self.exchanges.len() - 1
            });
            let known = &mut self.exchanges[at];
            known.is_sure = false;
            known.bindings.retain(|(name, _)| *name != queue);
            known.bindings.push((queue, member));
        }
    }

    /// Returns the queues to which an exchange leads with a routing key.
    pub(super) fn queues(&self, exchange: &str, routing_key: &str, keys: &Keys) -> Vec<Arc<str>> {
        let known = self.exchanges.iter().find(|known| known.name == exchange);
        let bindings = known.map(|known| known.bindings.as_slice()).unwrap_or_default();
        let members: Vec<String> = bindings.iter().map(|(_, member)| member.clone()).collect();
        matching_queues(keys, &members, routing_key).into_iter().map(Arc::from).collect()
    }

    /// Notes that somebody changed those keys, or any.
    pub(super) fn note_changes(&mut self, keys: Option<&Value>) {
        for exchange in &mut self.exchanges {
            exchange.is_sure &= match keys {
                Some(Value::Array(keys)) => !keys.iter().any(|key| exchange.has(key)),
                _ => false,
            };
        }
    }

    /// When bindings are to be written.
    pub(super) fn wake_in(&self) -> Option<Duration> {
        self.exchanges.iter().filter(|exchange| !exchange.is_sure).map(Exchange::pause).min()
    }

    /// Writes the bindings of which it is not sure that they are there, and reads the sets: the order makes the server
    /// take note of that. Returns of which exchanges.
    fn write(&mut self, queues: &Arc<[Arc<str>]>, commands: &mut Pipeline) -> Vec<usize> {
        let mut written = Vec::new();
        if !Arc::ptr_eq(&self.queues, queues) {
            self.queues = Arc::clone(queues);
            let consumed: HashSet<&str> = queues.iter().map(|queue| &**queue).collect();
            self.exchanges.retain_mut(|exchange| {
                exchange.bindings.retain(|(queue, _)| consumed.contains(&**queue));
                !exchange.bindings.is_empty()
            });
        }
        for (number, exchange) in self.exchanges.iter_mut().enumerate() {
            if exchange.is_sure || !exchange.pause().is_zero() {
                continue;
            }
            exchange.written = Some(Instant::now());
            for set in &exchange.sets {
                let add = commands.cmd("SADD").arg(set);
                for (_, member) in &exchange.bindings {
                    add.arg(member);
                }
            }
            for set in &exchange.sets {
                commands.cmd("SMEMBERS").arg(set);
            }
            written.push(number);
        }
        written
    }

    /// Reads the four replies to [`Bindings::write`] of one exchange.
    fn note_written(&mut self, number: usize, replies: &[Value]) {
        let exchange = &mut self.exchanges[number];
        let has_all = |members: &Value| {
            let members = texts(members);
            exchange.bindings.iter().all(|(_, member)| members.contains(member))
        };
        exchange.is_sure = replies.iter().skip(exchange.sets.len()).all(has_all);
    }
}

impl<R: Receiver> Consumer<R> {
    /// Writes bindings that may be gone; returns of which exchanges.
    pub(super) fn plan_bindings(&mut self, commands: &mut Pipeline) -> Vec<usize> {
        self.bindings.keep(self.handle.take_bindings(), &self.keys);
        self.bindings.write(self.sources.queues(), commands)
    }

    /// Notes whether the bindings of an exchange are there now; returns why, if the server refuses everything now. What
    /// is refused is written again later.
    pub(super) fn take_bindings(&mut self, exchange: usize, replies: &[Value]) -> Option<String> {
        self.bindings.note_written(exchange, replies);
        let name = self.bindings.exchanges[exchange].name.clone();
        match replies.iter().find(|reply| server_error(reply).is_some()) {
            Some(reply) if server_error(reply).is_some_and(|reason| is_full(&reason)) => None,
            Some(reply) => self.note_refusal(reply, Work::Bind, &name),
            None => {
                self.refusals.end(Work::Bind, &name);
                None
            }
        }
    }
}
