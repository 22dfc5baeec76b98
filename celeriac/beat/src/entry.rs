//! What beat sends: the entries of a schedule, and the runs that are made of them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::schedule::{Schedule, ScheduleError, State, Terms};

/// One entry of `beat_schedule`: what is sent, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Name of the entry.
    pub name: String,
    /// Name of the task.
    pub task: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// Options of `apply_async`: `queue`, `expires`, `priority`, `countdown`, ...
    pub options: Map<String, Value>,
    /// When it runs.
    pub schedule: Schedule,
    /// Whether it runs at all.
    pub enabled: bool,
    /// When it last ran; `None` runs at once.
    pub last_run_at: Option<DateTime<Utc>>,
    /// How often it ran.
    pub total_run_count: u64,
}

/// An entry that cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// A key is missing or of the wrong type.
    #[error("entry {entry:?}: {key} is missing or not {expected}")]
    Key {
        /// Name of the entry.
        entry: String,
        /// The key.
        key: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// A key that no entry has.
    #[error(
        "entry {entry:?}: unknown key {key:?}; an entry has task, schedule, args, kwargs, options, relative, enabled"
    )]
    UnknownKey {
        /// Name of the entry.
        entry: String,
        /// The key.
        key: String,
    },
    /// The schedule is not valid.
    #[error("entry {entry:?}: {source}")]
    Schedule {
        /// Name of the entry.
        entry: String,
        /// Why.
        source: ScheduleError,
    },
}

impl Entry {
    /// An entry without arguments and options that has not run yet.
    pub fn new(name: impl Into<String>, task: impl Into<String>, schedule: Schedule) -> Self {
        Self {
            name: name.into(),
            task: task.into(),
            args: Vec::new(),
            kwargs: Map::new(),
            options: Map::new(),
            schedule,
            enabled: true,
            last_run_at: None,
            total_run_count: 0,
        }
    }

    /// Sends to that queue.
    pub fn queue(self, queue: &str) -> Self {
        self.option("queue", queue)
    }

    /// Sends with that option of `apply_async`.
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.options.insert(name.to_owned(), value.into());
        self
    }

    /// Reads the entries of the setting `beat_schedule`.
    ///
    /// # Errors
    /// When an entry is not valid; it is named.
    pub fn from_settings(beat_schedule: &Map<String, Value>) -> Result<Vec<Self>, EntryError> {
        beat_schedule.iter().map(|(name, value)| Self::from_json(name, value)).collect()
    }

    /// Reads an entry of settings or RedBeat's `definition` (whose `name` is passed over).
    ///
    /// # Errors
    /// When it is not valid.
    pub fn from_json(name: &str, value: &Value) -> Result<Self, EntryError> {
        let wrong = |key, expected| EntryError::Key { entry: name.to_owned(), key, expected };
        let fields = value.as_object().ok_or_else(|| wrong("the entry", "a mapping"))?;
        let task =
            fields.get("task").and_then(Value::as_str).ok_or_else(|| wrong("task", "a task's name"))?;
        let schedule = fields.get("schedule").ok_or_else(|| wrong("schedule", "given"))?;
        let schedule = Schedule::from_json(schedule)
            .map_err(|source| EntryError::Schedule { entry: name.to_owned(), source })?;
        let mut entry = Self::new(name, task, schedule);
        for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            match key.as_str() {
                "name" | "task" | "schedule" => {}
                "args" => entry.args = value.as_array().ok_or_else(|| wrong("args", "a list"))?.clone(),
                "kwargs" => {
                    entry.kwargs = value.as_object().ok_or_else(|| wrong("kwargs", "a mapping"))?.clone()
                }
                "options" => {
                    entry.options = value.as_object().ok_or_else(|| wrong("options", "a mapping"))?.clone()
                }
                "enabled" => {
                    entry.enabled = value.as_bool().ok_or_else(|| wrong("enabled", "true or false"))?
                }
                "relative" => {
                    let relative = value.as_bool().ok_or_else(|| wrong("relative", "true or false"))?;
                    if let Schedule::Interval(interval) = &mut entry.schedule {
                        interval.relative = relative;
                    }
                }
                _ => return Err(EntryError::UnknownKey { entry: name.to_owned(), key: key.clone() }),
            }
        }
        Ok(entry)
    }

    /// RedBeat's `definition` (celery-redbeat 2.4.2, sample `beat/redbeat_keys.json`): a Python beat stops at any other key.
    pub fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "task": self.task,
            "args": if self.args.is_empty() { Value::Null } else { Value::from(self.args.clone()) },
            "kwargs": self.kwargs,
            "options": self.options,
            "schedule": self.schedule.to_json(),
            "enabled": self.enabled,
        })
    }

    /// Whether it is to run at `now`. One that never ran is due at once.
    pub fn is_due(&self, now: DateTime<Utc>, terms: &Terms) -> State {
        let state = self.schedule.is_due(self.last_run_at.unwrap_or(now), now, terms);
        State { is_due: state.is_due || self.last_run_at.is_none(), ..state }
    }

    /// When it is to be looked at: now if it is due.
    pub fn next_look(&self, now: DateTime<Utc>, terms: &Terms) -> DateTime<Utc> {
        let state = self.is_due(now, terms);
        if state.is_due { now } else { now + state.next }
    }

    /// Takes what is remembered of an entry of the same name.
    pub(crate) fn remember(&mut self, last_run_at: Option<DateTime<Utc>>, total_run_count: u64) {
        self.last_run_at = last_run_at;
        self.total_run_count = total_run_count;
    }

    /// Counts a run at `now`.
    pub(crate) fn advance(&mut self, now: DateTime<Utc>) -> Run {
        self.last_run_at = Some(now);
        self.total_run_count += 1;
        Run {
            id: Uuid::new_v4(),
            entry: self.name.clone(),
            task: self.task.clone(),
            args: self.args.clone(),
            kwargs: self.kwargs.clone(),
            options: self.options.clone(),
            run_at: now,
        }
    }
}

/// One run of an entry: the task message that is to be sent. The id is the task's, also if it has to be sent again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The task id.
    pub id: Uuid,
    /// Name of the entry.
    pub entry: String,
    /// Name of the task.
    pub task: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// Options of `apply_async`.
    pub options: Map<String, Value>,
    /// When the entry was found due.
    pub run_at: DateTime<Utc>,
}
