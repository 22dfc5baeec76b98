use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A call of a Celery task that is to be published.
#[derive(Debug, Clone)]
pub struct Message {
    pub(crate) id: Uuid,
    pub(crate) key: Option<String>,
    pub(crate) task: String,
    pub(crate) args: Vec<Value>,
    pub(crate) kwargs: Map<String, Value>,
    pub(crate) options: Map<String, Value>,
    pub(crate) eta: Option<DateTime<Utc>>,
    pub(crate) publish_at: Option<DateTime<Utc>>,
}

impl Message {
    /// Returns a call of the task of that name, without arguments, to be published at once.
    pub fn new(task: impl Into<String>) -> Self {
        Self {
            id: Uuid::new_v4(),
            key: None,
            task: task.into(),
            args: Vec::new(),
            kwargs: Map::new(),
            options: Map::new(),
            eta: None,
            publish_at: None,
        }
    }

    /// Appends a positional argument.
    #[must_use]
    pub fn arg(mut self, value: impl Into<Value>) -> Self {
        self.args.push(value.into());
        self
    }

    /// Sets a keyword argument.
    #[must_use]
    pub fn kwarg(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.kwargs.insert(name.into(), value.into());
        self
    }

    /// Sets an option of Celery's `apply_async`, such as `queue` or `headers`.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    /// Names the message, by at most 255 characters. It is kept until that key is settled, and is the only one with it.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Has the task run at that time. The message is published as much earlier as `ahead` says, and a worker holds it
    /// until then.
    #[must_use]
    pub fn eta(mut self, eta: DateTime<Utc>, ahead: Duration) -> Self {
        let ahead = TimeDelta::from_std(ahead).unwrap_or(TimeDelta::MAX);
        self.publish_at = Some(eta.checked_sub_signed(ahead).unwrap_or(DateTime::UNIX_EPOCH));
        self.eta = Some(eta);
        self
    }

    /// Returns the id under which the task will run, however often the message is published.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Returns Celery's object of the call.
    pub(crate) fn signature(&self) -> Value {
        let mut options = self.options.clone();
        options.insert("task_id".to_owned(), self.id.to_string().into());
        if let Some(eta) = self.eta {
            options.insert("eta".to_owned(), eta.to_rfc3339().into());
        }
        json!({ "task": self.task, "args": self.args, "kwargs": self.kwargs, "options": options })
    }
}

/// Returns the messages without those whose key an earlier one has.
pub(crate) fn without_repeated_keys(messages: &[Message]) -> impl Iterator<Item = &Message> {
    let mut keys = std::collections::HashSet::new();
    messages.iter().filter(move |message| message.key.as_ref().is_none_or(|key| keys.insert(key.as_str())))
}
