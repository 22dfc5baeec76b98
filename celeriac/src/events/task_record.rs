//! What is known about one task.

use super::event::Event;
use crate::message::{Map, Value};

/// Fields that only `task-received` settles, when events come out of order (`Task.merge_rules`).
const FROM_RECEIVED: [&str; 8] =
    ["name", "args", "kwargs", "parent_id", "root_id", "retries", "eta", "expires"];

/// A task as events describe it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TaskRecord {
    /// Task id.
    pub uuid: String,
    /// State, upper case: `PENDING`, `RECEIVED`, `STARTED`, ...
    pub state: String,
    /// When it came to be in that state: Unix time in seconds.
    pub timestamp: Option<f64>,
    /// Node name of the worker that told of it.
    pub worker: Option<String>,
    /// Node name of the client that sent it.
    pub client: Option<String>,
    /// Logical clock of the last event.
    pub clock: u64,
    /// When each event was sent, by what happened: `received`, `started`, ...; Unix times in seconds.
    pub times: Vec<(String, f64)>,
    /// Tasks that this one sent.
    pub children: Vec<String>,
    /// Everything else that events told: `name`, `args`, `kwargs`, `result`, `runtime`, `exception`, ...
    pub fields: Map,
    /// Clock and time of the latest event, by which tasks are ordered.
    pub(super) order: (u64, f64),
}

impl TaskRecord {
    pub(super) fn new(uuid: &str) -> Self {
        Self {
            uuid: uuid.to_owned(),
            state: "PENDING".to_owned(),
            timestamp: None,
            worker: None,
            client: None,
            clock: 0,
            times: Vec::new(),
            children: Vec::new(),
            fields: Map::new(),
            order: (0, 0.0),
        }
    }

    /// Name of the task, or its shadow.
    pub fn name(&self) -> Option<&str> {
        self.fields.get("name")?.as_str()
    }

    /// A field that events told.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// When something happened to it: `sent`, `received`, `started`, `succeeded`, ...
    pub fn time_of(&self, subject: &str) -> Option<f64> {
        self.times.iter().find(|(happened, _)| happened == subject).map(|(_, time)| *time)
    }

    /// Whether the task is done.
    pub fn is_ready(&self) -> bool {
        matches!(self.state.as_str(), "SUCCESS" | "FAILURE" | "REVOKED")
    }

    /// Takes an event of this task.
    pub(super) fn update(&mut self, subject: &str, event: &Event) {
        let timestamp = event.timestamp();
        let state = match state_of(subject) {
            Some(state) => {
                if let Some(timestamp) = timestamp {
                    self.times.retain(|(happened, _)| happened != subject);
                    self.times.push((subject.to_owned(), timestamp));
                }
                state.to_owned()
            }
            None => subject.to_uppercase(),
        };
        let happened_before =
            state != "RETRY" && self.state != "RETRY" && precedence(&state) > precedence(&self.state);
        let keep = |name: &str| !happened_before || state != "RECEIVED" || FROM_RECEIVED.contains(&name);
        for (name, value) in &event.fields {
            if keep(name) && !matches!(name.as_str(), "uuid" | "hostname" | "type" | "timestamp" | "clock") {
                self.fields.insert(name.clone(), value.clone());
            }
        }
        let clock = event.clock().unwrap_or_default();
        if keep("clock") {
            self.clock = clock;
        }
        if !happened_before {
            self.state = state;
            self.timestamp = timestamp;
        }
        let order = (clock, timestamp.unwrap_or_default());
        if self.order.partial_cmp(&order).is_none_or(std::cmp::Ordering::is_lt) {
            self.order = order;
        }
    }
}

fn state_of(subject: &str) -> Option<&'static str> {
    Some(match subject {
        "sent" => "PENDING",
        "received" => "RECEIVED",
        "started" => "STARTED",
        "failed" => "FAILURE",
        "retried" => "RETRY",
        "succeeded" => "SUCCESS",
        "revoked" => "REVOKED",
        "rejected" => "REJECTED",
        _ => return None,
    })
}

/// Place in the order of states, the most final first (`celery/states.py`).
fn precedence(state: &str) -> usize {
    const ORDER: [&str; 9] =
        ["SUCCESS", "FAILURE", "", "REVOKED", "STARTED", "RECEIVED", "REJECTED", "RETRY", "PENDING"];
    const CUSTOM: usize = 2;
    ORDER.iter().position(|known| *known == state).unwrap_or(CUSTOM)
}
