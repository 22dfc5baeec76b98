//! Entries as JSON: as settings have them, and as RedBeat keeps them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Calendar, CalendarError, Entry, MissedRuns, Overlap};
use crate::instant;
use crate::schedule::{Schedule, ScheduleError};

const KEYS: &str = "task, schedule, args, kwargs, options, relative, enabled, timezone, description, start, end, total_runs, \
                    one_off, jitter, exclude, missed, missed_limit, missed_window, overlap, overlap_timeout, \
                    pause_after_failures";

/// How many missed runs `missed = "all"` sends by default.
const MISSED_LIMIT: u32 = 100;

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
    #[error("entry {entry:?}: unknown key {key:?}; an entry has {KEYS}")]
    UnknownKey {
        /// Name of the entry.
        entry: String,
        /// The key.
        key: String,
    },
    /// The schedule is not valid.
    #[error("entry {entry:?}: {reason}")]
    Schedule {
        /// Name of the entry.
        entry: String,
        /// Why.
        reason: ScheduleError,
    },
    /// A day that is excluded is none.
    #[error("entry {entry:?}: exclude: {reason}")]
    Exclude {
        /// Name of the entry.
        entry: String,
        /// Why.
        reason: CalendarError,
    },
}

/// All entries of a schedule that cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", listed(.0))]
pub struct EntryErrors(pub Vec<EntryError>);

fn listed(errors: &[EntryError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Entry {
    /// Reads the entries of the setting `beat_schedule`.
    ///
    /// # Errors
    /// Every entry that is not valid.
    pub fn from_settings(beat_schedule: &Map<String, Value>) -> Result<Vec<Self>, EntryErrors> {
        let mut wrong = Vec::new();
        let read = beat_schedule.iter().map(|(name, value)| Self::from_json(name, value));
        let entries = read.filter_map(|entry| entry.map_err(|error| wrong.push(error)).ok()).collect();
        if wrong.is_empty() { Ok(entries) } else { Err(EntryErrors(wrong)) }
    }

    /// Reads an entry of settings, or RedBeat's `definition` (whose `name` is passed over).
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
            .map_err(|reason| EntryError::Schedule { entry: name.to_owned(), reason })?;
        let mut entry = Self::new(name, task, schedule);
        for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            match key.as_str() {
                "name" | "task" | "schedule" | "description" => {}
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
                _ => entry.read_extra(key, value)?,
            }
        }
        Ok(entry)
    }

    /// Reads the part of a definition that RedBeat has no place for, as [`Entry::extras`] writes it.
    ///
    /// # Errors
    /// When it is not valid.
    pub(crate) fn read_extras(&mut self, extras: &Value) -> Result<(), EntryError> {
        let Some(extras) = extras.as_object() else { return Ok(()) };
        extras.iter().try_for_each(|(key, value)| self.read_extra(key, value))
    }

    fn read_extra(&mut self, key: &str, value: &Value) -> Result<(), EntryError> {
        let name = self.name.clone();
        let wrong = |key, expected| EntryError::Key { entry: name.clone(), key, expected };
        let time = |key| value.as_str().and_then(instant::parse).ok_or_else(|| wrong(key, TIME)).map(Some);
        let seconds = |key| {
            let seconds = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            seconds.ok_or_else(|| wrong(key, "a number of seconds"))
        };
        let number = |key| value.as_u64().ok_or_else(|| wrong(key, "a whole number"));
        let small = |key| number(key).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        let policy = &mut self.policy;
        match key {
            "timezone" => {
                let zone = value.as_str().and_then(|name| name.parse().ok());
                self.timezone = Some(zone.ok_or_else(|| wrong("timezone", "a zone such as Europe/Warsaw"))?);
            }
            "start" => policy.start = time("start")?,
            "end" => policy.end = time("end")?,
            "total_runs" => policy.total_runs = Some(number("total_runs")?),
            "one_off" => match value.as_bool() {
                Some(one_off) => policy.total_runs = one_off.then_some(1).or(policy.total_runs),
                None => return Err(wrong("one_off", "true or false")),
            },
            "jitter" => policy.jitter = seconds("jitter")?,
            "exclude" => {
                let days = value.as_array().ok_or_else(|| wrong("exclude", "a list of days"))?;
                let days = days.iter().map(|day| day.as_str().map_or_else(|| day.to_string(), str::to_owned));
                policy.exclude = Calendar::new(days)
                    .map_err(|reason| EntryError::Exclude { entry: self.name.clone(), reason })?;
            }
            "missed" => {
                policy.missed = match (value.as_str(), policy.missed) {
                    (Some("skip"), _) => MissedRuns::Skip,
                    (Some("last"), _) => MissedRuns::Last,
                    (Some("all"), MissedRuns::All(limit)) => MissedRuns::All(limit),
                    (Some("all"), _) => MissedRuns::All(MISSED_LIMIT),
                    _ => return Err(wrong("missed", "skip, last or all")),
                }
            }
            // A limit says that all up to it are wanted.
            "missed_limit" => policy.missed = MissedRuns::All(small("missed_limit")?),
            "missed_window" => policy.missed_window = Some(seconds("missed_window")?),
            "overlap" => {
                policy.overlap = match value.as_str() {
                    Some("allow") => Overlap::Allow,
                    Some("skip") => Overlap::Skip,
                    Some("buffer_one") => Overlap::BufferOne,
                    _ => return Err(wrong("overlap", "allow, skip or buffer_one")),
                }
            }
            "overlap_timeout" => policy.overlap_timeout = Some(seconds("overlap_timeout")?),
            "pause_after_failures" => policy.pause_after_failures = Some(small("pause_after_failures")?),
            _ => return Err(EntryError::UnknownKey { entry: self.name.clone(), key: key.to_owned() }),
        }
        Ok(())
    }

    /// The part of its definition that RedBeat has no place for; `null` when there is none.
    pub(crate) fn extras(&self) -> Value {
        let policy = &self.policy;
        let mut extras = Map::new();
        let mut put = |key: &str, value: Value| {
            extras.insert(key.to_owned(), value);
        };
        if let Some(zone) = self.timezone {
            put("timezone", json!(zone.name()));
        }
        if let Some(start) = policy.start {
            put("start", json!(start.to_rfc3339()));
        }
        if let Some(end) = policy.end {
            put("end", json!(end.to_rfc3339()));
        }
        if let Some(runs) = policy.total_runs {
            put("total_runs", json!(runs));
        }
        if !policy.jitter.is_zero() {
            put("jitter", json!(policy.jitter.as_secs_f64()));
        }
        if !policy.exclude.is_empty() {
            put("exclude", json!(policy.exclude.written()));
        }
        match policy.missed {
            MissedRuns::Last => {}
            MissedRuns::Skip => put("missed", json!("skip")),
            MissedRuns::All(limit) => put("missed_limit", json!(limit)),
        }
        if let Some(window) = policy.missed_window {
            put("missed_window", json!(window.as_secs_f64()));
        }
        match policy.overlap {
            Overlap::Allow => {}
            Overlap::Skip => put("overlap", json!("skip")),
            Overlap::BufferOne => put("overlap", json!("buffer_one")),
        }
        if let Some(timeout) = policy.overlap_timeout {
            put("overlap_timeout", json!(timeout.as_secs_f64()));
        }
        if let Some(failures) = policy.pause_after_failures {
            put("pause_after_failures", json!(failures));
        }
        if extras.is_empty() { Value::Null } else { Value::Object(extras) }
    }

    /// The whole definition: what [`Entry::from_json`] reads.
    pub fn to_json(&self) -> Value {
        let mut whole = self.definition();
        if let (Some(whole), Some(extras)) = (whole.as_object_mut(), self.extras().as_object()) {
            whole.extend(extras.clone());
        }
        whole
    }
}

const TIME: &str = "a time such as 2026-12-24T18:00:00+01:00";
