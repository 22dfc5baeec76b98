//! Schedules as JSON: RedBeat's form, and the shorter ones that a settings file may use.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    Clocked, Crontab, CrontabError, Interval, Rrule, RruleError, Schedule, Solar, SolarError, SolarEvent,
};
use crate::instant;

/// A schedule that cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// Not a known form.
    #[error(
        "schedule {0} is not a number of seconds, a crontab text, lines of RFC 5545, or a mapping with `every`, with crontab \
         fields, with `event`, `lat`, `lon`, with `clocked` or with `rrule`"
    )]
    Unknown(String),
    /// An interval that is no time.
    #[error("interval {0} is not a positive number of seconds")]
    Interval(String),
    /// A crontab that is not valid.
    #[error("crontab {text}: {source}")]
    Crontab {
        /// As written.
        text: String,
        /// Why.
        source: CrontabError,
    },
    /// A solar schedule that is not valid.
    #[error("solar schedule {text}: {source}")]
    Solar {
        /// As written.
        text: String,
        /// Why.
        source: SolarError,
    },
    /// A point in time that is none.
    #[error("clocked {0} is not a time such as 2026-12-24T18:00:00+01:00")]
    Clocked(String),
    /// A recurrence rule that is not valid.
    #[error("rrule {text}: {source}")]
    Rrule {
        /// As written.
        text: String,
        /// Why.
        source: RruleError,
    },
    /// A key that the kind of schedule does not have.
    #[error("schedule {text}: unknown key {key:?}; {kind} has {known}")]
    UnknownKey {
        /// The schedule as written.
        text: String,
        /// The key.
        key: String,
        /// The kind of schedule.
        kind: &'static str,
        /// The keys that it has.
        known: String,
    },
    /// A unit of time that is none.
    #[error("period {0} is not one of days, hours, minutes, seconds, microseconds")]
    Period(String),
    /// A kind that does not exist.
    #[error("schedules of type {0:?} are not supported")]
    Unsupported(String),
}

impl Schedule {
    /// Reads RedBeat's `{"__type__": "interval" | "crontab" | "rrule", ...}` (celery-redbeat 2.4.2), or the shorter forms: a
    /// number of seconds, `"0 1 * * *"`, `{"every": 5, "period": "minutes"}`, `{"minute": "*/5"}`, `{"event": "sunrise", "lat":
    /// 52.2, "lon": 21.0}`, `{"clocked": "2026-12-24T18:00:00+01:00"}`, `"DTSTART:...\nRRULE:..."`.
    ///
    /// # Errors
    /// When it is none of these, has a key that its kind does not have, or a value that cannot be used.
    pub fn from_json(value: &Value) -> Result<Self, ScheduleError> {
        match value {
            Value::Number(_) => interval(value, 1.0, false),
            Value::String(text) if is_recurrence(text) => recurrence(text),
            Value::String(text) => Crontab::from_text(text)
                .map(|crontab| Schedule::Crontab(Box::new(crontab)))
                .map_err(|source| ScheduleError::Crontab { text: value.to_string(), source }),
            Value::Object(fields) => from_fields(value, fields),
            _ => Err(ScheduleError::Unknown(value.to_string())),
        }
    }

    /// RedBeat's form; kinds that have none there get one of the same shape.
    pub fn to_json(&self) -> Value {
        match self {
            Schedule::Interval(interval) => {
                json!({"__type__": "interval", "every": interval.every.as_secs_f64(), "relative": interval.relative})
            }
            Schedule::Crontab(crontab) => {
                let mut fields = Map::from_iter([("__type__".to_owned(), json!("crontab"))]);
                fields.extend(
                    crontab.fields().map(|(name, field)| (name.to_owned(), field.original().clone())),
                );
                Value::Object(fields)
            }
            Schedule::Solar(solar) => {
                let (event, latitude, longitude) = solar.parts();
                json!({"__type__": "solar", "event": event.to_string(), "lat": latitude, "lon": longitude})
            }
            Schedule::Clocked(clocked) => json!({"__type__": "clocked", "clocked": clocked.at.to_rfc3339()}),
            Schedule::Rrule(rrule) => rrule.to_json(),
        }
    }
}

const CRONTAB_FIELDS: [&str; 5] = ["minute", "hour", "day_of_week", "day_of_month", "month_of_year"];

fn from_fields(value: &Value, fields: &Map<String, Value>) -> Result<Schedule, ScheduleError> {
    let has = |name: &str| fields.contains_key(name);
    let kind = match fields.get("__type__").map(|kind| kind.as_str().unwrap_or("")) {
        Some(kind) => kind,
        None if has("every") => "interval",
        None if has("event") => "solar",
        None if has("clocked") => "clocked",
        None if has("rrule") || has("freq") => "rrule",
        None if CRONTAB_FIELDS.iter().any(|name| has(name)) => "crontab",
        None => return Err(ScheduleError::Unknown(value.to_string())),
    };
    match kind {
        "interval" => {
            only(value, fields, "an interval", &["every", "period", "relative"])?;
            interval_of(value, fields)
        }
        "crontab" => {
            only(value, fields, "a crontab", &CRONTAB_FIELDS)?;
            crontab(value, fields)
        }
        "solar" => {
            only(value, fields, "a solar schedule", &["event", "lat", "lon"])?;
            solar(value, fields)
        }
        "clocked" => {
            only(value, fields, "a clocked schedule", &["clocked"])?;
            let at = fields.get("clocked").ok_or_else(|| ScheduleError::Unknown(value.to_string()))?;
            let at_as_written = at.to_string();
            let at = at.as_str().and_then(instant::parse).ok_or(ScheduleError::Clocked(at_as_written))?;
            Ok(Schedule::Clocked(Clocked { at }))
        }
        "rrule" if has("rrule") => {
            only(value, fields, "an rrule", &["rrule", "dtstart"])?;
            let text = fields.get("rrule").and_then(Value::as_str).unwrap_or_default();
            match fields.get("dtstart").and_then(Value::as_str) {
                Some(start) => {
                    let at = instant::parse(start).ok_or_else(|| ScheduleError::Clocked(start.to_owned()))?;
                    let rule = if text.contains(':') { text.to_owned() } else { format!("RRULE:{text}") };
                    recurrence(&format!("DTSTART:{}\n{rule}", at.format("%Y%m%dT%H%M%SZ")))
                }
                None => recurrence(text),
            }
        }
        "rrule" => Rrule::from_redbeat(fields)
            .map(|rrule| Schedule::Rrule(Box::new(rrule)))
            .map_err(|source| ScheduleError::Rrule { text: value.to_string(), source }),
        kind => Err(ScheduleError::Unsupported(kind.to_owned())),
    }
}

/// Refuses keys that a kind of schedule does not have: what is passed over would run at other times than was meant.
fn only(
    value: &Value,
    fields: &Map<String, Value>,
    kind: &'static str,
    known: &[&str],
) -> Result<(), ScheduleError> {
    match fields.keys().find(|key| *key != "__type__" && !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(ScheduleError::UnknownKey {
            text: value.to_string(),
            key: key.clone(),
            kind,
            known: known.join(", "),
        }),
    }
}

fn is_recurrence(text: &str) -> bool {
    let start = text.trim_start().to_ascii_uppercase();
    ["DTSTART", "RRULE", "FREQ="].iter().any(|word| start.starts_with(word))
}

fn recurrence(text: &str) -> Result<Schedule, ScheduleError> {
    Rrule::from_text(text)
        .map(|rrule| Schedule::Rrule(Box::new(rrule)))
        .map_err(|source| ScheduleError::Rrule { text: text.to_owned(), source })
}

fn interval_of(value: &Value, fields: &Map<String, Value>) -> Result<Schedule, ScheduleError> {
    let every = fields.get("every").ok_or_else(|| ScheduleError::Unknown(value.to_string()))?;
    // The periods of django-celery-beat.
    let unit = match fields.get("period").filter(|period| !period.is_null()) {
        None => 1.0,
        Some(period) => match period.as_str().map(|period| period.trim_end_matches('s')) {
            Some("day") => 86_400.0,
            Some("hour") => 3600.0,
            Some("minute") => 60.0,
            Some("second") => 1.0,
            Some("microsecond") => 1e-6,
            _ => return Err(ScheduleError::Period(period.to_string())),
        },
    };
    interval(every, unit, fields.get("relative").and_then(Value::as_bool).unwrap_or(false))
}

fn interval(every: &Value, unit: f64, relative: bool) -> Result<Schedule, ScheduleError> {
    let every_as_written = every.to_string();
    let seconds = every.as_f64().map(|every| every * unit).filter(|seconds| *seconds > 0.0);
    let every = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    every
        .map(|every| Schedule::Interval(Interval { every, relative }))
        .ok_or(ScheduleError::Interval(every_as_written))
}

fn crontab(value: &Value, fields: &Map<String, Value>) -> Result<Schedule, ScheduleError> {
    let field = |name: &str| fields.get(name).unwrap_or(&Value::Null);
    let [minute, hour, day_of_week, day_of_month, month_of_year] = CRONTAB_FIELDS.map(field);
    Crontab::new(minute, hour, day_of_week, day_of_month, month_of_year)
        .map(|crontab| Schedule::Crontab(Box::new(crontab)))
        .map_err(|source| ScheduleError::Crontab { text: value.to_string(), source })
}

fn solar(value: &Value, fields: &Map<String, Value>) -> Result<Schedule, ScheduleError> {
    let event = fields.get("event").and_then(Value::as_str);
    let degrees = |name: &str| fields.get(name).and_then(Value::as_f64);
    let (Some(event), Some(latitude), Some(longitude)) = (event, degrees("lat"), degrees("lon")) else {
        return Err(ScheduleError::Unknown(value.to_string()));
    };
    let solar = event.parse::<SolarEvent>().and_then(|event| Solar::new(event, latitude, longitude));
    solar.map(Schedule::Solar).map_err(|source| ScheduleError::Solar { text: value.to_string(), source })
}
