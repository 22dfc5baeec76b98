//! Message headers and their times.

use crate::Timezone;
use chrono::{DateTime, Utc};

use super::error::{ProtocolError, shown};
use super::iso8601::local_to_utc;
use super::{Headers, Map, TimeLimit, Value, json, repr};

pub use super::iso8601::{format_iso8601, parse_iso8601};

/// The header is there but not of the expected type.
#[derive(Debug)]
pub(super) struct WrongType {
    pub(super) expected: &'static str,
    pub(super) found: String,
}

impl Headers {
    /// The not-before time; one without an offset is local to `tz`.
    ///
    /// # Errors
    /// The header is there and not an ISO 8601 text.
    pub fn eta(&self, tz: Timezone) -> Result<Option<DateTime<Utc>>, ProtocolError> {
        time("eta", self.eta.as_ref(), tz)
    }

    /// The time after which the task is not run; one without an offset is local to `tz`.
    ///
    /// # Errors
    /// The header is there and not an ISO 8601 text.
    pub fn expires(&self, tz: Timezone) -> Result<Option<DateTime<Utc>>, ProtocolError> {
        time("expires", self.expires.as_ref(), tz)
    }

    /// Reads headers that another transport has decoded.
    ///
    /// # Errors
    /// A header that Celery defines has a value of a wrong type.
    pub fn from_map(entries: Map) -> Result<Self, ProtocolError> {
        let mut headers = Headers::default();
        let mut wrong = None;
        for (name, value) in entries {
            if let Err(mismatch) = headers.set(&name, value) {
                wrong.get_or_insert((name, mismatch));
            }
        }
        match wrong {
            None => Ok(headers),
            Some((name, mismatch)) => Err(headers.bad_header(name, mismatch)),
        }
    }

    /// The headers as Celery sends them: of a task all of protocol 2, null when unused; else those that are set.
    pub fn to_map(&self) -> Map {
        let mut entries = Map::with_capacity(20 + self.extra.len());
        self.visit(&mut |name, item| {
            entries.insert(name.to_owned(), item.to_value());
        });
        entries
    }

    /// Appends the headers as a JSON object.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut first = true;
        self.visit(&mut |name, item| {
            if !std::mem::take(&mut first) {
                out.extend_from_slice(b", ");
            }
            json::write_str(name, out);
            out.extend_from_slice(b": ");
            item.write(out);
        });
        out.push(b'}');
    }

    pub(super) fn bad_header(self, name: String, mismatch: WrongType) -> ProtocolError {
        let WrongType { expected, found } = mismatch;
        ProtocolError::BadHeader { name, expected, found, id: self.id, task: self.task }
    }

    /// Takes every header that the others set.
    pub(super) fn override_with(&mut self, others: Headers) {
        let keep = |old: &mut Option<String>, new: Option<String>| *old = new.or(old.take());
        keep(&mut self.lang, others.lang);
        keep(&mut self.task, others.task);
        keep(&mut self.id, others.id);
        keep(&mut self.shadow, others.shadow);
        keep(&mut self.group, others.group);
        keep(&mut self.root_id, others.root_id);
        keep(&mut self.parent_id, others.parent_id);
        keep(&mut self.argsrepr, others.argsrepr);
        keep(&mut self.kwargsrepr, others.kwargsrepr);
        keep(&mut self.origin, others.origin);
        keep(&mut self.compression, others.compression);
        self.eta = others.eta.or(self.eta.take());
        self.expires = others.expires.or(self.expires.take());
        self.group_index = others.group_index.or(self.group_index);
        self.retries = if others.retries > 0 { others.retries } else { self.retries };
        self.timelimit.hard = others.timelimit.hard.or(self.timelimit.hard);
        self.timelimit.soft = others.timelimit.soft.or(self.timelimit.soft);
        self.ignore_result = others.ignore_result.or(self.ignore_result);
        self.replaced_task_nesting = self.replaced_task_nesting.max(others.replaced_task_nesting);
        self.stamped_headers = others.stamped_headers.or(self.stamped_headers.take());
        self.stamps.extend(others.stamps);
        self.redelivered |= others.redelivered;
        self.extra.extend(others.extra);
    }

    /// Goes through the headers in Celery's order.
    fn visit(&self, each: &mut impl FnMut(&str, Item<'_>)) {
        if self.task.is_some() {
            self.visit_task(each)
        } else {
            self.visit_present(each)
        }
        if let Some(compression) = &self.compression {
            each("compression", Item::Str(compression));
        }
        if self.redelivered {
            each("redelivered", Item::Bool(true));
        }
        for (name, value) in &self.extra {
            each(name, Item::Value(value));
        }
    }

    fn visit_task(&self, each: &mut impl FnMut(&str, Item<'_>)) {
        each("lang", Item::text(&self.lang));
        each("task", Item::text(&self.task));
        each("id", Item::text(&self.id));
        each("shadow", Item::text(&self.shadow));
        each("eta", self.eta.as_ref().map_or(Item::Null, Item::Value));
        each("expires", self.expires.as_ref().map_or(Item::Null, Item::Value));
        each("group", Item::text(&self.group));
        each("group_index", self.group_index.map_or(Item::Null, Item::Int));
        each("retries", Item::Int(self.retries.into()));
        each("timelimit", Item::TimeLimit(self.timelimit));
        each("root_id", Item::text(&self.root_id));
        each("parent_id", Item::text(&self.parent_id));
        each("argsrepr", Item::text(&self.argsrepr));
        each("kwargsrepr", Item::text(&self.kwargsrepr));
        each("origin", Item::text(&self.origin));
        each("ignore_result", self.ignore_result.map_or(Item::Null, Item::Bool));
        each("replaced_task_nesting", Item::Int(self.replaced_task_nesting.into()));
        each("stamped_headers", self.stamped_headers.as_ref().map_or(Item::Null, |names| Item::Names(names)));
        each("stamps", Item::Map(&self.stamps));
    }

    fn visit_present(&self, each: &mut impl FnMut(&str, Item<'_>)) {
        let texts = [
            ("lang", &self.lang),
            ("id", &self.id),
            ("shadow", &self.shadow),
            ("group", &self.group),
            ("root_id", &self.root_id),
            ("parent_id", &self.parent_id),
            ("argsrepr", &self.argsrepr),
            ("kwargsrepr", &self.kwargsrepr),
            ("origin", &self.origin),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                each(name, Item::Str(text));
            }
        }
        for (name, value) in [("eta", &self.eta), ("expires", &self.expires)] {
            if let Some(value) = value {
                each(name, Item::Value(value));
            }
        }
        if let Some(index) = self.group_index {
            each("group_index", Item::Int(index));
        }
        if self.retries > 0 {
            each("retries", Item::Int(self.retries.into()));
        }
        if self.timelimit != TimeLimit::default() {
            each("timelimit", Item::TimeLimit(self.timelimit));
        }
        if let Some(ignore_result) = self.ignore_result {
            each("ignore_result", Item::Bool(ignore_result));
        }
        if self.replaced_task_nesting > 0 {
            each("replaced_task_nesting", Item::Int(self.replaced_task_nesting.into()));
        }
        if let Some(names) = &self.stamped_headers {
            each("stamped_headers", Item::Names(names));
        }
        if !self.stamps.is_empty() {
            each("stamps", Item::Map(&self.stamps));
        }
    }

    /// Takes the value of one header.
    pub(super) fn set(&mut self, name: &str, value: Value) -> Result<(), WrongType> {
        match name {
            "lang" => self.lang = shown_text(value),
            "task" => self.task = found_by(value)?,
            "id" => self.id = found_by(value)?,
            "shadow" => self.shadow = shown_text(value),
            "eta" => self.eta = some(value),
            "expires" => self.expires = some(value),
            "group" => self.group = text(value)?,
            "group_index" => self.group_index = integer(value)?,
            "retries" => self.retries = count(value)?,
            "timelimit" => self.timelimit = time_limit(value)?,
            "root_id" => self.root_id = text(value)?,
            "parent_id" => self.parent_id = text(value)?,
            "argsrepr" => self.argsrepr = shown_text(value),
            "kwargsrepr" => self.kwargsrepr = shown_text(value),
            "origin" => self.origin = shown_text(value),
            "ignore_result" => self.ignore_result = flag(value)?,
            "replaced_task_nesting" => self.replaced_task_nesting = count(value)?,
            "stamped_headers" => self.stamped_headers = names(value)?,
            "stamps" => self.stamps = map(value)?,
            "compression" => self.compression = text(value)?,
            "redelivered" => self.redelivered = flag(value)?.unwrap_or(false),
            _ => {
                self.extra.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }
}

/// One header's value, borrowed.
enum Item<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Str(&'a str),
    Names(&'a [String]),
    Map(&'a Map),
    TimeLimit(TimeLimit),
    Value(&'a Value),
}

impl<'a> Item<'a> {
    fn text(text: &'a Option<String>) -> Self {
        text.as_deref().map_or(Item::Null, Item::Str)
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Item::Null => out.extend_from_slice(b"null"),
            Item::Bool(flag) => json::write(&Value::Bool(*flag), out),
            Item::Int(number) => json::write_int(*number, out),
            Item::Str(text) => json::write_str(text, out),
            Item::Map(entries) => json::write_map(entries, out),
            Item::Value(value) => json::write(value, out),
            Item::Names(_) | Item::TimeLimit(_) => json::write(&self.to_value(), out),
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Item::Null => Value::Null,
            Item::Bool(flag) => Value::Bool(*flag),
            Item::Int(number) => Value::Int(*number),
            Item::Str(text) => Value::from(*text),
            Item::Names(names) => names.iter().map(|name| Value::from(name.as_str())).collect(),
            Item::Map(entries) => Value::Map((*entries).clone()),
            Item::TimeLimit(limit) => limit.to_value(),
            Item::Value(value) => (*value).clone(),
        }
    }
}

impl TimeLimit {
    /// `[hard, soft]`, as the header holds it; whole seconds are integers.
    pub fn to_value(&self) -> Value {
        [self.hard, self.soft].into_iter().map(|seconds| seconds.map_or(Value::Null, number)).collect()
    }
}

fn number(seconds: f64) -> Value {
    if seconds.fract() == 0.0 && seconds.abs() < 1e15 {
        Value::Int(seconds as i64)
    } else {
        Value::Float(seconds)
    }
}

fn time(field: &str, value: Option<&Value>, tz: Timezone) -> Result<Option<DateTime<Utc>>, ProtocolError> {
    let wrong = |value: &Value| ProtocolError::BadTime { field: field.to_owned(), found: shown(value) };
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Str(text)) if text.is_empty() => Ok(None),
        Some(value @ Value::Str(text)) => parse_iso8601(text, tz).map(Some).ok_or_else(|| wrong(value)),
        Some(Value::DateTime(moment)) => Ok(Some(moment.to_utc())),
        Some(Value::NaiveDateTime(moment)) => Ok(Some(local_to_utc(*moment, tz))),
        Some(value) => Err(wrong(value)),
    }
}

fn wrong<T>(expected: &'static str, found: &Value) -> Result<T, WrongType> {
    Err(WrongType { expected, found: shown(found) })
}

fn some(value: Value) -> Option<Value> {
    (!value.is_null()).then_some(value)
}

fn text(value: Value) -> Result<Option<String>, WrongType> {
    match value {
        Value::Null => Ok(None),
        Value::Str(_) | Value::Surrogates(_) => Ok(value.into_carried()),
        Value::Uuid(uuid) => Ok(Some(uuid.to_string())),
        other => wrong("text or null", &other),
    }
}

/// A header by which a task or its result is found.
fn found_by(value: Value) -> Result<Option<String>, WrongType> {
    match value {
        // Celery cannot make a key of it either.
        Value::Surrogates(_) => wrong("text without lone surrogates", &value),
        other => text(other),
    }
}

/// A header that is only ever shown may hold anything: Celery does not look at it either.
fn shown_text(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Str(_) | Value::Surrogates(_) => value.into_carried(),
        other => Some(repr::repr(&other)),
    }
}

fn integer(value: Value) -> Result<Option<i64>, WrongType> {
    match value {
        Value::Null => Ok(None),
        Value::Int(number) => Ok(Some(number)),
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => Ok(Some(number as i64)),
        other => wrong("an integer or null", &other),
    }
}

fn count(value: Value) -> Result<u32, WrongType> {
    match value {
        Value::Null => Ok(0),
        Value::Int(number) if u32::try_from(number).is_ok() => Ok(number as u32),
        Value::Float(number) if number.fract() == 0.0 && (0.0..4e9).contains(&number) => Ok(number as u32),
        other => wrong("a count", &other),
    }
}

fn flag(value: Value) -> Result<Option<bool>, WrongType> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(flag)),
        Value::Int(number) => Ok(Some(number != 0)),
        other => wrong("a boolean or null", &other),
    }
}

fn map(value: Value) -> Result<Map, WrongType> {
    match value {
        Value::Null => Ok(Map::new()),
        Value::Map(entries) => Ok(entries),
        other => wrong("an object or null", &other),
    }
}

fn names(value: Value) -> Result<Option<Vec<String>>, WrongType> {
    const EXPECTED: &str = "a list of names or null";
    match value {
        Value::Null => Ok(None),
        Value::List(items) if items.iter().all(|item| item.kind() == "str") => {
            Ok(Some(items.into_iter().filter_map(Value::into_carried).collect()))
        }
        other => wrong(EXPECTED, &other),
    }
}

fn time_limit(value: Value) -> Result<TimeLimit, WrongType> {
    const EXPECTED: &str = "[hard, soft] in seconds, or null";
    match &value {
        Value::Null => Ok(TimeLimit::default()),
        Value::List(limits) if limits.is_empty() => Ok(TimeLimit::default()),
        Value::List(limits) => match limits.as_slice() {
            [hard, soft] if is_limit(hard) && is_limit(soft) => {
                Ok(TimeLimit { hard: hard.as_f64(), soft: soft.as_f64() })
            }
            _ => wrong(EXPECTED, &value),
        },
        _ => wrong(EXPECTED, &value),
    }
}

fn is_limit(value: &Value) -> bool {
    value.is_null() || value.as_f64().is_some_and(|seconds| seconds.is_finite() && seconds >= 0.0)
}
