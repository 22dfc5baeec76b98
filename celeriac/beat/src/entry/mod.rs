//! What beat sends: the entries of a schedule, and the runs that are made of them.

mod calendar;
mod history;
mod plan;
mod policy;
mod read;
mod run;

use celeriac::Timezone;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

pub use calendar::{Calendar, CalendarError};
pub use history::{History, Outcome, Past};
pub use plan::{Missed, Plan, Verdict};
pub use policy::{MissedRuns, Overlap, Policy};
pub use read::{EntryError, EntryErrors};
pub use run::Run;

use crate::schedule::Schedule;

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
    /// The zone of its wall time; the app's if not given.
    pub timezone: Option<Timezone>,
    /// Whether it runs at all.
    pub enabled: bool,
    /// Its bounds, and what becomes of missed and overlapping runs.
    pub policy: Policy,
    /// When it last ran; `None` runs at once.
    pub last_run_at: Option<DateTime<Utc>>,
    /// How often it ran.
    pub total_run_count: u64,
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
            timezone: None,
            enabled: true,
            policy: Policy::default(),
            last_run_at: None,
            total_run_count: 0,
        }
    }

    /// Sends to that queue.
    #[must_use]
    pub fn queue(self, queue: &str) -> Self {
        self.option("queue", queue)
    }

    /// Sends with that option of `apply_async`.
    #[must_use]
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.options.insert(name.to_owned(), value.into());
        self
    }

    /// The same entry under that policy.
    #[must_use]
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
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

    /// Whether Python's RedBeat can run it: RedBeat has a form for its schedule, and nothing bounds or shifts its runs.
    pub fn is_redbeat(&self) -> bool {
        self.schedule.is_redbeat() && self.timezone.is_none() && !self.policy.shapes_times()
    }

    /// The run at a slot, with the id that any beat would give it.
    pub fn run_at(&self, slot: DateTime<Utc>) -> Run {
        Run::of(self, slot)
    }

    /// A run now, beside the schedule, with an id of its own.
    pub fn run_now(&self) -> Run {
        Run { id: Uuid::new_v4(), ..self.run_at(Utc::now()) }
    }

    /// Takes what is remembered of an entry of the same name.
    pub(crate) fn remember(&mut self, last_run_at: Option<DateTime<Utc>>, total_run_count: u64) {
        self.last_run_at = last_run_at;
        self.total_run_count = total_run_count;
    }
}
