//! Schedules as JSON: RedBeat's form, and the shorter ones that a settings file may use.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Crontab, CrontabError, Interval, Schedule, Solar, SolarError};

/// A schedule that cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// Not a known form.
    #[error(
        "schedule {0} is not a number of seconds, a crontab text, or a mapping with `every`, with crontab fields, or with \
         `event`, `lat`, `lon`"
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
    /// A kind that celeriac's beat does not compute, such as RedBeat's `rrule`.
    #[error("schedules of type {0:?} are not supported")]
    Unsupported(String),
}

impl Schedule {
    /// Reads RedBeat's `{"__type__": "interval" | "crontab", ...}` (celery-redbeat 2.4.2), or the shorter forms: a number
    /// of seconds, `"0 1 * * *"`, `{"every": 60}`, `{"minute": "*/5"}`, `{"event": "sunrise", "lat": 52.2, "lon": 21.0}`.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn from_json(value: &Value) -> Result<Self, ScheduleError> {
        match value {
            Value::Number(_) => interval(value, false),
            Value::String(text) => Crontab::from_text(text)
                .map(|crontab| Schedule::Crontab(Box::new(crontab)))
                .map_err(|source| ScheduleError::Crontab { text: value.to_string(), source }),
            Value::Object(fields) => from_fields(value, fields),
            _ => Err(ScheduleError::Unknown(value.to_string())),
        }
    }

    /// RedBeat's form; solar schedules have none there and get one of the same kind.
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
        }
    }
}

fn from_fields(value: &Value, fields: &Map<String, Value>) -> Result<Schedule, ScheduleError> {
    let kind = fields.get("__type__").and_then(Value::as_str);
    let has = |name: &str| fields.contains_key(name);
    match kind {
        Some("interval") => interval_of(value, fields),
        Some("crontab") => crontab(value, fields),
        Some("solar") => solar(value, fields),
        Some(kind) => Err(ScheduleError::Unsupported(kind.to_owned())),
        None if has("every") => interval_of(value, fields),
        None if has("event") => solar(value, fields),
        None if CRONTAB_FIELDS.iter().any(|name| has(name)) => crontab(value, fields),
        None => Err(ScheduleError::Unknown(value.to_string())),
    }
}

const CRONTAB_FIELDS: [&str; 5] = ["minute", "hour", "day_of_week", "day_of_month", "month_of_year"];

fn interval_of(value: &Value, fields: &Map<String, Value>) -> Result<Schedule, ScheduleError> {
    let every = fields.get("every").ok_or_else(|| ScheduleError::Unknown(value.to_string()))?;
    interval(every, fields.get("relative").and_then(Value::as_bool).unwrap_or(false))
}

fn interval(every: &Value, relative: bool) -> Result<Schedule, ScheduleError> {
    let every_as_written = every.to_string();
    let seconds = every.as_f64().filter(|seconds| *seconds > 0.0);
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
    let solar = event.parse().and_then(|event| Solar::new(event, latitude, longitude));
    solar.map(Schedule::Solar).map_err(|source| ScheduleError::Solar { text: value.to_string(), source })
}
