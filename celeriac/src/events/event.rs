//! One event, as it was received.

use crate::message::{Map, Value};

/// An event: its fields as they were sent, and when it came here.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// All fields, `type` among them.
    pub fields: Map,
    /// When it was received: Unix time in seconds.
    pub local_received: f64,
}

impl Event {
    /// The event with those fields; `None` when they name no type.
    pub fn new(fields: Map, local_received: f64) -> Option<Self> {
        fields.get("type")?.as_str()?;
        Some(Self { fields, local_received })
    }

    /// The type: `task-received`, `worker-heartbeat`, ...
    pub fn kind(&self) -> &str {
        self.text("type").unwrap_or_default()
    }

    /// The part of the type before the first dash, and the rest: `task` and `received`.
    pub fn group(&self) -> (&str, &str) {
        self.kind().split_once('-').unwrap_or((self.kind(), ""))
    }

    /// Node name of the sender.
    pub fn hostname(&self) -> Option<&str> {
        self.text("hostname")
    }

    /// Id of the task, in events of tasks.
    pub fn uuid(&self) -> Option<&str> {
        self.text("uuid")
    }

    /// When it was sent: Unix time in seconds.
    pub fn timestamp(&self) -> Option<f64> {
        self.number("timestamp")
    }

    /// The sender's logical clock.
    pub fn clock(&self) -> Option<u64> {
        self.fields.get("clock")?.as_i64().and_then(|clock| clock.try_into().ok())
    }

    /// A field that holds text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }

    /// A field that holds a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.fields.get(name)?.as_f64()
    }

    /// Any field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }
}
