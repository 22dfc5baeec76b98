//! A value as Python's serializers know it: what travels as an argument, a result or a header.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use indexmap::IndexMap;
use uuid::Uuid;

use super::surrogates::{self, Surrogates, Text};
use crate::stack::deeper;

/// A string-keyed mapping that keeps its order, as Python's `dict` does.
///
/// A key with lone surrogates is held in the form of [`Surrogates::carried`].
pub type Map = IndexMap<String, Value>;

/// Any value that a Celery message or result can hold, kombu's typed values included.
///
/// JSON cannot say more than null, booleans, numbers, text, lists and objects; kombu writes the other variants as
/// `{"__type__": ..., "__value__": ...}` (`kombu/utils/json.py`, kombu 5.7).
#[derive(Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Python's `None`.
    #[default]
    Null,
    /// `True` or `False`.
    Bool(bool),
    /// An integer that fits into 64 bits.
    Int(i64),
    /// A larger integer, as its decimal digits with an optional leading minus.
    BigInt(String),
    /// A float; `NaN` and the infinities are values that Python sends.
    Float(f64),
    /// Text.
    Str(String),
    /// Text with lone surrogates, which UTF-8 cannot hold. Never plain text.
    Surrogates(Surrogates),
    /// Binary data: msgpack's `bin`, kombu's `bytes` and `base64`.
    Bytes(Vec<u8>),
    /// A list; Python's tuples arrive as lists.
    List(Vec<Value>),
    /// A mapping with text keys.
    Map(Map),
    /// An aware `datetime`.
    DateTime(DateTime<FixedOffset>),
    /// A naive `datetime`.
    NaiveDateTime(NaiveDateTime),
    /// A `date`.
    Date(NaiveDate),
    /// A `time` without an offset.
    Time(NaiveTime),
    /// A `decimal.Decimal`, as its text.
    Decimal(String),
    /// A `uuid.UUID`.
    Uuid(Uuid),
}

impl Value {
    /// Whether this is Python's `None`.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The boolean, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(flag) = self { Some(*flag) } else { None }
    }

    /// The integer, if this is one that fits into 64 bits.
    pub fn as_i64(&self) -> Option<i64> {
        if let Value::Int(number) = self { Some(*number) } else { None }
    }

    /// The number as a float, if this is an integer or a float.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, if this is text without lone surrogates.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Str(text) = self { Some(text) } else { None }
    }

    /// Any text, as a key or header holds it; `None` if this is no text.
    pub(crate) fn into_carried(self) -> Option<String> {
        match self {
            Value::Str(text) => Some(surrogates::carried(text)),
            Value::Surrogates(text) => Some(text.into_carried()),
            _ => None,
        }
    }

    /// The elements, if this is a list.
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Value::List(items) = self { Some(items) } else { None }
    }

    /// The entries, if this is a mapping.
    pub fn as_map(&self) -> Option<&Map> {
        if let Value::Map(entries) = self { Some(entries) } else { None }
    }

    /// The entry of that name, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(key)
    }

    /// The name of the Python type that holds such a value: `int`, `str`, `NoneType`, ...
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::BigInt(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) | Value::Surrogates(_) => "str",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Map(_) => "dict",
            Value::DateTime(_) | Value::NaiveDateTime(_) => "datetime",
            Value::Date(_) => "date",
            Value::Time(_) => "time",
            Value::Decimal(_) => "Decimal",
            Value::Uuid(_) => "UUID",
        }
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        match self {
            Value::Null => Value::Null,
            Value::Bool(flag) => Value::Bool(*flag),
            Value::Int(number) => Value::Int(*number),
            Value::BigInt(digits) => Value::BigInt(digits.clone()),
            Value::Float(number) => Value::Float(*number),
            Value::Str(text) => Value::Str(text.clone()),
            Value::Surrogates(text) => Value::Surrogates(text.clone()),
            Value::Bytes(bytes) => Value::Bytes(bytes.clone()),
            Value::List(items) => deeper(|| Value::List(items.clone())),
            Value::Map(entries) => deeper(|| Value::Map(entries.clone())),
            Value::DateTime(moment) => Value::DateTime(*moment),
            Value::NaiveDateTime(moment) => Value::NaiveDateTime(*moment),
            Value::Date(date) => Value::Date(*date),
            Value::Time(time) => Value::Time(*time),
            Value::Decimal(digits) => Value::Decimal(digits.clone()),
            Value::Uuid(uuid) => Value::Uuid(*uuid),
        }
    }
}

macro_rules! from {
    ($($type:ty => |$value:ident| $conversion:expr;)*) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $conversion
            }
        })*
    };
}

from! {
    bool => |value| Value::Bool(value);
    i8 => |value| Value::Int(value.into());
    i16 => |value| Value::Int(value.into());
    i32 => |value| Value::Int(value.into());
    i64 => |value| Value::Int(value);
    u8 => |value| Value::Int(value.into());
    u16 => |value| Value::Int(value.into());
    u32 => |value| Value::Int(value.into());
    u64 => |value| i64::try_from(value).map_or_else(|_| Value::BigInt(value.to_string()), Value::Int);
    usize => |value| Value::from(value as u64);
    f32 => |value| Value::Float(value.into());
    f64 => |value| Value::Float(value);
    &str => |value| match Text::of(value) {
        Text::Plain(text) => Value::Str(text.into_owned()),
        Text::Surrogates(text) => Value::Surrogates(text),
    };
    String => |value| if surrogates::is_marked(&value) { Value::from(value.as_str()) } else { Value::Str(value) };
    Surrogates => |value| Value::Surrogates(value);
    Map => |value| Value::Map(value);
    Uuid => |value| Value::Uuid(value);
    DateTime<Utc> => |value| Value::DateTime(value.fixed_offset());
    DateTime<FixedOffset> => |value| Value::DateTime(value);
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl FromIterator<Value> for Value {
    fn from_iter<I: IntoIterator<Item = Value>>(items: I) -> Self {
        Value::List(items.into_iter().collect())
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(flag) => Value::Bool(flag),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Value::Int(number),
                (None, Some(number)) => Value::from(number),
                (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Value::Str(text),
            serde_json::Value::Array(items) => items.into_iter().map(Value::from).collect(),
            serde_json::Value::Object(entries) => {
                Value::Map(entries.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
        }
    }
}

/// Builds a [`Value`] from a JSON-like literal.
///
/// ```
/// let value = celeriac::value!({"x": [1, null, "text"]});
/// assert_eq!(value.get("x").unwrap().as_list().unwrap().len(), 3);
/// ```
#[macro_export]
macro_rules! value {
    ($($json:tt)+) => { $crate::message::Value::from($crate::__private::serde_json::json!($($json)+)) };
}
