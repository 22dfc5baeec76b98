//! Values as serde sees them: task arguments and results from and to any Rust type.

use std::fmt;

use super::Value;
use super::repr::saferepr;

mod de;
mod key;
mod seed;
mod ser;
mod ser_key;

pub(super) use seed::Seed;

/// Name of the newtype by which a [`Value`] recognises this module's serializer and deserializer, so that typed
/// values pass through them unchanged.
const VALUE: &str = "$celeriac::Value";
/// The same for integers beyond 128 bits.
const BIG_INT: &str = "$celeriac::BigInt";
/// `__type__` under which such an integer travels between the two; kombu has none of that name.
const BIG_INT_TYPE: &str = "$celeriac::int";

/// Longest piece of a value that an error text shows, in characters.
const SHOWN: usize = 80;

/// A Rust type and a [`Value`] do not fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ValueError {
    message: String,
}

impl ValueError {
    fn new(message: impl fmt::Display) -> Self {
        ValueError { message: message.to_string() }
    }
}

/// Turns anything that serde serializes into a value.
///
/// # Errors
/// The type's own serialization fails, or a mapping has keys that are no text.
pub fn to_value<T: serde::Serialize + ?Sized>(value: &T) -> Result<Value, ValueError> {
    value.serialize(ser::ValueSerializer)
}

/// Turns a value into anything that serde deserializes.
///
/// UUIDs, decimals and times are read from their text as well as from kombu's typed values.
///
/// # Errors
/// The value does not fit the type; the text says what was expected and what was found.
pub fn from_value<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, ValueError> {
    from_value_ref(&value)
}

/// Turns a borrowed value into anything that serde deserializes; text and bytes can be borrowed from it.
///
/// # Errors
/// As [`from_value`].
pub fn from_value_ref<'de, T: serde::Deserialize<'de>>(value: &'de Value) -> Result<T, ValueError> {
    T::deserialize(de::ValueDeserializer(value))
}

impl serde::ser::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        ValueError::new(message)
    }
}

impl serde::de::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        ValueError::new(message)
    }

    fn invalid_type(unexpected: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        let expected = expected.to_string();
        ValueError::new(format_args!("expected {}, found {}", kind(&expected), found(&unexpected)))
    }

    fn invalid_value(unexpected: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        let expected = expected.to_string();
        let expected = match kind(&expected) {
            kind if kind == expected => expected,
            kind => format!("{kind} ({expected})"),
        };
        ValueError::new(format_args!("expected {expected}, found {}", found(&unexpected)))
    }

    fn invalid_length(length: usize, expected: &dyn serde::de::Expected) -> Self {
        ValueError::new(format_args!("expected {expected}, found {length} elements"))
    }
}

/// Names of Rust's primitive types in plain words; any other expectation as it is.
fn kind(expected: &str) -> &str {
    match expected {
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" | "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => {
            "an integer"
        }
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "a mapping",
        "unit" => "None",
        other => other,
    }
}

/// The unexpected value as Python shows it.
fn found(unexpected: &serde::de::Unexpected<'_>) -> String {
    use serde::de::Unexpected;
    let value = match unexpected {
        Unexpected::Bool(flag) => Value::Bool(*flag),
        Unexpected::Signed(number) => Value::Int(*number),
        Unexpected::Unsigned(number) => Value::from(*number),
        Unexpected::Float(number) => Value::Float(*number),
        Unexpected::Char(character) => Value::Str(character.to_string()),
        Unexpected::Str(text) => Value::from(*text),
        Unexpected::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
        Unexpected::Unit | Unexpected::Option => Value::Null,
        Unexpected::Seq => return "a list".to_owned(),
        Unexpected::Map => return "a mapping".to_owned(),
        other => return other.to_string(),
    };
    saferepr(&value, SHOWN, 2)
}
