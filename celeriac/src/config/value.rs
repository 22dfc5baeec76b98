//! How one setting's value is read from text (environment, command line) and JSON (files), and shown.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Timezone;
use serde_json::{Map, Value};

/// A type that a setting can have.
pub trait SettingValue: Sized {
    /// What the setting takes, for documents and error messages: "a whole number".
    fn expected() -> String;

    /// Reads a value of a file or of a JSON text; an error says what would be right.
    fn from_json(value: &Value) -> Result<Self, String>;

    /// Reads a value of the environment or of the command line.
    fn from_text(text: &str) -> Result<Self, String> {
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        Self::from_json(&value)
    }

    /// The value as `inspect conf` shows it.
    fn to_json(&self) -> Value;

    /// Whether a text, besides the empty one, `none` and `null`, unsets an optional setting of this type.
    fn means_nothing(_text: &str) -> bool {
        false
    }
}

impl SettingValue for bool {
    fn expected() -> String {
        "true or false (also 1/0, yes/no, on/off)".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::Bool(flag) => Ok(*flag),
            Value::Number(number) if number.as_u64() == Some(0) => Ok(false),
            Value::Number(number) if number.as_u64() == Some(1) => Ok(true),
            Value::String(text) => Self::from_text(text),
            _ => Err(Self::expected()),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err(Self::expected()),
        }
    }

    fn to_json(&self) -> Value {
        Value::Bool(*self)
    }
}

macro_rules! whole_numbers {
    ($($type:ty: $expected:literal;)+) => {$(
        impl SettingValue for $type {
            fn expected() -> String {
                $expected.into()
            }

            fn from_json(value: &Value) -> Result<Self, String> {
                match value {
                    Value::Number(_) => serde_json::from_value(value.clone()).map_err(|_| Self::expected()),
                    Value::String(text) => Self::from_text(text),
                    _ => Err(Self::expected()),
                }
            }

            fn from_text(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| Self::expected())
            }

            fn to_json(&self) -> Value {
                Value::from(*self)
            }
        }
    )+};
}

whole_numbers! {
    u8: "a whole number from 0 to 255";
    u16: "a whole number from 0 to 65535";
    u32: "a whole number, 0 or more";
    u64: "a whole number, 0 or more";
    i64: "a whole number";
}

impl SettingValue for f64 {
    fn expected() -> String {
        "a number".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::Number(number) => number.as_f64().ok_or_else(Self::expected),
            Value::String(text) => Self::from_text(text),
            _ => Err(Self::expected()),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.trim().parse().ok().filter(|number: &f64| !number.is_nan()).ok_or_else(Self::expected)
    }

    fn to_json(&self) -> Value {
        number(*self)
    }
}

/// The longest time that a setting may have, some 317 years: with it neither a clock nor a server's number overflows.
const MOST_SECONDS: u64 = 10_000_000_000;

fn duration(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|time| *time <= Duration::from_secs(MOST_SECONDS))
}

impl SettingValue for Duration {
    fn expected() -> String {
        format!("a number of seconds, 0 or more, at most {MOST_SECONDS}")
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        if value.is_null() {
            return Ok(Duration::ZERO);
        }
        f64::from_json(value).ok().and_then(duration).ok_or_else(Self::expected)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        f64::from_text(text).ok().and_then(duration).ok_or_else(Self::expected)
    }

    fn to_json(&self) -> Value {
        number(self.as_secs_f64())
    }
}

impl SettingValue for String {
    fn expected() -> String {
        "text".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(Self::expected()),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn to_json(&self) -> Value {
        Value::String(self.clone())
    }
}

impl SettingValue for Timezone {
    fn expected() -> String {
        "a time zone of the IANA database such as UTC or Europe/Berlin".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        value.as_str().ok_or_else(Self::expected).and_then(Self::from_text)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.trim().parse().map_err(|_| Self::expected())
    }

    fn to_json(&self) -> Value {
        Value::String(self.name().to_owned())
    }
}

/// Any JSON value, for settings that Celery leaves open.
impl SettingValue for Value {
    fn expected() -> String {
        "any JSON value".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        Ok(value.clone())
    }

    fn to_json(&self) -> Value {
        self.clone()
    }
}

impl SettingValue for Map<String, Value> {
    fn expected() -> String {
        "a mapping (as JSON: {\"key\": value})".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        value.as_object().cloned().ok_or_else(Self::expected)
    }

    fn to_json(&self) -> Value {
        Value::Object(self.clone())
    }
}

impl<T: SettingValue> SettingValue for BTreeMap<String, T> {
    fn expected() -> String {
        format!("a mapping (as JSON: {{\"key\": value}}) with values: {}", T::expected())
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        let entries = value.as_object().ok_or_else(Self::expected)?;
        entries.iter().map(|(key, value)| Ok((key.clone(), T::from_json(value)?))).collect()
    }

    fn to_json(&self) -> Value {
        Value::Object(self.iter().map(|(key, value)| (key.clone(), value.to_json())).collect())
    }
}

impl<T: SettingValue> SettingValue for Vec<T> {
    fn expected() -> String {
        format!("a list, comma-separated or as JSON, each: {}", T::expected())
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::Array(items) => {
                items.iter().map(T::from_json).collect::<Result<_, _>>().map_err(|_| Self::expected())
            }
            Value::String(text) => Self::from_text(text),
            _ => Err(Self::expected()),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('[') {
            let value: Value = serde_json::from_str(text).map_err(|_| Self::expected())?;
            return Self::from_json(&value);
        }
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(T::from_text).collect::<Result<_, _>>().map_err(|_| Self::expected())
    }

    fn to_json(&self) -> Value {
        self.iter().map(T::to_json).collect()
    }
}

/// An unset value is empty text, `none` or `null`.
impl<T: SettingValue> SettingValue for Option<T> {
    fn expected() -> String {
        format!("{}, or nothing", T::expected())
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(None),
            Value::String(text) if is_nothing::<T>(text) => Ok(None),
            Value::Number(number) if T::means_nothing(&number.to_string()) => Ok(None),
            _ => T::from_json(value).map(Some),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if is_nothing::<T>(text) { Ok(None) } else { T::from_text(text).map(Some) }
    }

    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::to_json)
    }
}

fn is_nothing<T: SettingValue>(text: &str) -> bool {
    let text = text.trim();
    text.is_empty()
        || text.eq_ignore_ascii_case("none")
        || text.eq_ignore_ascii_case("null")
        || T::means_nothing(text)
}

/// A JSON number, without a fraction where it has none; infinity is the text `inf`, as Python says it.
pub(super) fn number(value: f64) -> Value {
    match value {
        _ if value.is_infinite() => Value::from(value.to_string()),
        _ if value.fract() == 0.0 && value.abs() < 1e15 => Value::from(value as i64),
        _ => Value::from(value),
    }
}
