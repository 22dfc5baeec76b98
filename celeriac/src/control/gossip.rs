//! What workers learn from each other's events: who is there, what time it is, and who is elected.
//!
//! Source: celery 5.7 `celery/worker/consumer/gossip.py`.

use indexmap::IndexMap;

use crate::events::{Change, Dispatcher, Event, State};
use crate::message::{Map, Value};

/// Elections that are remembered at most.
const ELECTIONS: usize = 1_000;

/// The other workers, and the elections that go on.
pub(super) struct Gossip {
    hostname: String,
    /// Node name and process id, by which candidates are known.
    full_hostname: String,
    events: Dispatcher,
    others: State,
    /// Candidates by election.
    candidates: IndexMap<String, Vec<Candidate>>,
    /// How many have acknowledged the elections that this worker called.
    acknowledged: IndexMap<String, usize>,
}

/// Who would do something; ordered by who goes first.
#[derive(Clone, Debug, PartialEq)]
struct Candidate {
    clock: u64,
    name: String,
    topic: String,
    action: Value,
}

impl Gossip {
    pub(super) fn new(hostname: &str, pid: u32, events: Dispatcher) -> Self {
        Self {
            hostname: hostname.to_owned(),
            full_hostname: format!("{hostname}.{pid}"),
            events,
            others: State::with_limits(5_000, 1),
            candidates: IndexMap::new(),
            acknowledged: IndexMap::new(),
        }
    }

    /// Calls an election: all workers that gossip offer to do the action, one of them will.
    pub(super) fn elect(&mut self, id: &str, topic: &str, action: Value) {
        make_room(&mut self.acknowledged);
        self.acknowledged.insert(id.to_owned(), 0);
        let fields = [("id", id.into()), ("topic", topic.into()), ("action", action), ("cver", 1.into())];
        self.events.send("worker-elect", &fields.map(|(name, value)| (name.to_owned(), value)).into());
    }

    /// Takes an event; returns topic and action of an election that this worker has won.
    pub(super) fn event(&mut self, event: &Event) -> Option<(String, Value)> {
        match event.kind() {
            "worker-elect" => {
                self.on_elect(event);
                None
            }
            "worker-elect-ack" => self.on_acknowledged(event),
            _ if event.hostname() == Some(&self.hostname) => None,
            _ => {
                match self.others.event(event) {
                    Change::WorkerJoined => {
                        log::debug!("{} joined the party", event.hostname().unwrap_or_default());
                    }
                    Change::WorkerLeft => log::debug!("{} left", event.hostname().unwrap_or_default()),
                    _ => {}
                }
                None
            }
        }
    }

    /// Forgets workers that went silent; to be called now and then.
    pub(super) fn remove_lost(&mut self) {
        for worker in self.others.remove_lost_workers() {
            log::info!(worker = worker.hostname.as_str(); "missed heartbeat from {}", worker.hostname);
        }
    }

    fn on_elect(&mut self, event: &Event) {
        let pid = event.get("pid").and_then(Value::as_i64);
        let (Some(id), Some(clock), Some(hostname), Some(pid), Some(topic), Some(action), Some(_)) = (
            event.text("id"),
            event.clock(),
            event.hostname(),
            pid,
            event.text("topic"),
            event.get("action"),
            event.get("cver"),
        ) else {
            log::error!("election request misses a field");
            return;
        };
        make_room(&mut self.candidates);
        self.candidates.entry(id.to_owned()).or_default().push(Candidate {
            clock,
            name: format!("{hostname}.{pid}"),
            topic: topic.to_owned(),
            action: action.clone(),
        });
        self.events.send("worker-elect-ack", &Map::from([("id".to_owned(), id.into())]));
    }

    fn on_acknowledged(&mut self, event: &Event) -> Option<(String, Value)> {
        let id = event.text("id")?;
        let count = self.acknowledged.get_mut(id)?;
        *count += 1;
        if *count < self.others.alive_workers().count() {
            return None;
        }
        self.acknowledged.shift_remove(id);
        let candidates = self.candidates.shift_remove(id)?;
        let leader = candidates.into_iter().min_by(|a, b| (a.clock, &a.name).cmp(&(b.clock, &b.name)))?;
        if leader.name == self.full_hostname {
            log::info!(election = id; "I won the election {id:?}");
            return Some((leader.topic, leader.action));
        }
        log::info!(election = id; "node {} elected for {id:?}", leader.name);
        None
    }
}

fn make_room<T>(elections: &mut IndexMap<String, T>) {
    if elections.len() >= ELECTIONS {
        elections.shift_remove_index(0);
    }
}
