//! By the recurrence rules of RFC 5545, as RedBeat keeps them and as calendars write them.

use std::fmt::Write;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use rrule::RRuleSet;
use serde_json::{Map, Value, json};

/// Runs at the occurrences of recurrence rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Rrule {
    /// What it was made of: RedBeat's mapping, or the text.
    original: Value,
    set: RRuleSet,
    /// RedBeat's rules are computed in wall time at a fixed distance from UTC.
    offset: TimeDelta,
    /// The rule's text without `DTSTART`, where its start may be moved forward without changing what follows.
    movable: Option<Movable>,
}

#[derive(Clone, Debug, PartialEq)]
struct Movable {
    rule: String,
    start: NaiveDateTime,
    /// Time between two steps of the frequency.
    step: TimeDelta,
}

/// A recurrence rule that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RruleError {
    /// The text is no recurrence rule.
    #[error("{0}")]
    Text(String),
    /// There is no first occurrence to count from.
    #[error("the start is missing: begin with DTSTART:20260101T090000Z (or give `dtstart`)")]
    NoStart,
    /// A field of RedBeat's mapping has a value that it cannot have.
    #[error("{field} is {value}, expected {expected}")]
    Field {
        /// Name of the field.
        field: String,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A field that RedBeat's mapping does not have.
    #[error("unknown field {0:?}")]
    UnknownField(String),
}

const FREQUENCIES: [&str; 7] = ["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"];
const WEEKDAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
const LISTS: [&str; 9] = [
    "bysetpos",
    "bymonth",
    "bymonthday",
    "byyearday",
    "byeaster",
    "byweekno",
    "byhour",
    "byminute",
    "bysecond",
];

impl Rrule {
    /// Reads the lines of RFC 5545: `DTSTART:20260101T090000Z` (or with `TZID`), then `RRULE:FREQ=...`, `RDATE`, `EXDATE`.
    ///
    /// # Errors
    /// [`RruleError::NoStart`] and [`RruleError::Text`].
    pub fn from_text(text: &str) -> Result<Self, RruleError> {
        if !text.to_ascii_uppercase().contains("DTSTART") {
            return Err(RruleError::NoStart);
        }
        let set = parse(text)?;
        Ok(Self { original: Value::from(text), set, offset: TimeDelta::zero(), movable: None })
    }

    /// Reads RedBeat's mapping (celery-redbeat 2.4.2 `decoder.py`).
    ///
    /// # Errors
    /// When a field is unknown, or has a value that it cannot have.
    pub fn from_redbeat(fields: &Map<String, Value>) -> Result<Self, RruleError> {
        let wrong = |field: &str, expected| RruleError::Field {
            field: field.to_owned(),
            value: fields.get(field).unwrap_or(&Value::Null).to_string(),
            expected,
        };
        let given = |field: &str| fields.get(field).filter(|value| !value.is_null());
        let number = |field: &str| given(field).map(Value::as_f64);
        let known =
            ["__type__", "freq", "dtstart", "dtstart_tz", "until", "until_tz", "interval", "wkst", "count"];
        let is_known = |name: &str| known.contains(&name) || name == "byweekday" || LISTS.contains(&name);
        if let Some(name) = fields.keys().find(|name| !is_known(name)) {
            return Err(RruleError::UnknownField(name.clone()));
        }
        let frequency = match given("freq") {
            Some(Value::String(name)) => {
                FREQUENCIES.iter().position(|known| known.eq_ignore_ascii_case(name))
            }
            Some(number) => number.as_u64().and_then(|number| usize::try_from(number).ok()),
            None => None,
        };
        let frequency = frequency
            .filter(|number| *number < 7)
            .ok_or_else(|| wrong("freq", "0 (yearly) to 6 (secondly)"))?;
        let offset =
            number("dtstart_tz").unwrap_or(Some(0.0)).ok_or_else(|| wrong("dtstart_tz", "minutes"))?;
        let offset = TimeDelta::milliseconds((offset * 60_000.0) as i64);
        let wall = |field: &str| -> Result<Option<NaiveDateTime>, RruleError> {
            let Some(seconds) = number(field) else { return Ok(None) };
            let time = seconds.and_then(|seconds| DateTime::from_timestamp(seconds as i64, 0));
            let time = time.ok_or_else(|| wrong(field, "seconds since 1970"))?;
            Ok(Some(time.naive_utc() + offset))
        };
        let start = wall("dtstart")?.ok_or(RruleError::NoStart)?;
        let interval = given("interval")
            .map_or(Some(1), Value::as_u64)
            .ok_or_else(|| wrong("interval", "a whole number"))?;
        let mut rule = format!("FREQ={};INTERVAL={interval}", FREQUENCIES[frequency]);
        if let Some(until) = wall("until")? {
            let _ = write!(rule, ";UNTIL={}", until.format("%Y%m%dT%H%M%SZ"));
        }
        if let Some(count) = given("count") {
            let count = count.as_u64().ok_or_else(|| wrong("count", "a whole number"))?;
            let _ = write!(rule, ";COUNT={count}");
        }
        if let Some(day) = given("wkst") {
            let day = weekday(day).ok_or_else(|| wrong("wkst", "a weekday"))?;
            let _ = write!(rule, ";WKST={day}");
        }
        if let Some(days) = given("byweekday") {
            let days: Option<Vec<&str>> = items(days).iter().map(weekday).collect();
            let days = days.ok_or_else(|| wrong("byweekday", "weekdays"))?;
            let _ = write!(rule, ";BYDAY={}", days.join(","));
        }
        for field in LISTS {
            let Some(value) = given(field) else { continue };
            let numbers: Option<Vec<String>> =
                items(value).iter().map(|item| item.as_i64().map(|number| number.to_string())).collect();
            let numbers = numbers.ok_or_else(|| wrong(field, "whole numbers"))?;
            if !numbers.is_empty() {
                let _ = write!(rule, ";{}={}", field.to_ascii_uppercase(), numbers.join(","));
            }
        }
        let set = parse(&lines(start, &rule))?;
        let step = match frequency {
            2 => Some(TimeDelta::weeks(1)),
            3 => Some(TimeDelta::days(1)),
            4 => Some(TimeDelta::hours(1)),
            5 => Some(TimeDelta::minutes(1)),
            6 => Some(TimeDelta::seconds(1)),
            _ => None,
        };
        let step = step.filter(|_| given("count").is_none() && given("byeaster").is_none());
        let step = step.and_then(|step| step.checked_mul(i32::try_from(interval).ok()?));
        let movable = step.map(|step| Movable { rule, start, step });
        Ok(Self { original: Value::Object(fields.clone()), set, offset, movable })
    }

    /// The first occurrence after an instant, if there is one.
    pub fn next_after(&self, last: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let after = last + self.offset;
        // Rules count from their start; one that began long ago is begun later, at the same phase.
        let moved = self.movable.as_ref().and_then(|movable| movable.nearer(after.naive_utc()));
        let set = moved.as_ref().unwrap_or(&self.set);
        let next = set.into_iter().map(|time| time.with_timezone(&Utc)).find(|time| *time > after)?;
        Some(next - self.offset)
    }

    /// RedBeat's mapping; a text is `{"rrule": TEXT}`.
    pub(super) fn to_json(&self) -> Value {
        match &self.original {
            Value::String(text) => json!({"rrule": text}),
            mapping => mapping.clone(),
        }
    }

    /// Whether RedBeat can keep it.
    pub(super) fn is_redbeat(&self) -> bool {
        self.original.is_object()
    }
}

impl Movable {
    /// The same rule with a start shortly before `after`, where that saves work.
    fn nearer(&self, after: NaiveDateTime) -> Option<RRuleSet> {
        let steps = (after - self.start).num_seconds() / self.step.num_seconds().max(1) - 2;
        let steps = i32::try_from(steps).ok().filter(|steps| *steps > 64)?;
        parse(&lines(self.start + self.step.checked_mul(steps)?, &self.rule)).ok()
    }
}

fn lines(start: NaiveDateTime, rule: &str) -> String {
    format!("DTSTART:{}\nRRULE:{rule}", start.format("%Y%m%dT%H%M%SZ"))
}

fn parse(text: &str) -> Result<RRuleSet, RruleError> {
    text.parse().map_err(|error: rrule::RRuleError| RruleError::Text(error.to_string()))
}

fn items(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_else(|| vec![value.clone()])
}

/// A weekday of RedBeat: a number (Monday 0), or `{"__type__": "weekday", "wkday": 0}`.
fn weekday(value: &Value) -> Option<&'static str> {
    let number = value.as_u64().or_else(|| value.get("wkday")?.as_u64())?;
    WEEKDAYS.get(usize::try_from(number).ok()?).copied()
}
