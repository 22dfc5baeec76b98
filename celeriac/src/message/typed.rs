//! kombu's typed JSON values: `{"__type__": ..., "__value__": ...}` (`kombu/utils/json.py`, kombu 5.7).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::error::{ProtocolError, shown};
use super::iso8601::{self, Moment, Precision};
use super::{Map, Value, json};

const TYPE: &str = "__type__";
const VALUE: &str = "__value__";

/// The object, or the typed value that it stands for when its keys are exactly `__type__` and `__value__`.
pub(super) fn read(mut entries: Map) -> Result<Value, ProtocolError> {
    if entries.len() != 2 || !entries.contains_key(TYPE) || !entries.contains_key(VALUE) {
        return Ok(Value::Map(entries));
    }
    let name = match &entries[TYPE] {
        Value::Str(name) => name.as_str(),
        other => return Err(ProtocolError::UnknownType { name: shown(other) }),
    };
    let payload = &entries[VALUE];
    let typed = match name {
        "datetime" => payload.as_str().and_then(iso8601::parse_moment).map(|moment| match moment {
            Moment::Aware(moment) => Value::DateTime(moment),
            Moment::Naive(moment) => Value::NaiveDateTime(moment),
        }),
        "date" => payload.as_str().and_then(iso8601::parse_moment).map(|moment| match moment {
            Moment::Aware(moment) => Value::Date(moment.date_naive()),
            Moment::Naive(moment) => Value::Date(moment.date()),
        }),
        "time" => match payload.as_str().and_then(iso8601::parse_time) {
            Some((time, None)) => Some(Value::Time(time)),
            // No variant holds an offset: kept as it came, it goes on as it came.
            Some((_, Some(_))) => return Ok(Value::Map(entries)),
            None => None,
        },
        "decimal" => match payload {
            Value::Str(text) if is_decimal(text.trim()) => Some(Value::Decimal(text.trim().to_owned())),
            Value::Int(number) => Some(Value::Decimal(number.to_string())),
            _ => None,
        },
        "uuid" => {
            let hex = payload.get("hex").unwrap_or(payload);
            hex.as_str().and_then(|hex| Uuid::parse_str(hex).ok()).map(Value::Uuid)
        }
        "bytes" => payload.as_str().map(|text| Value::Bytes(text.as_bytes().to_owned())),
        "base64" => payload.as_str().and_then(|text| STANDARD.decode(text).ok()).map(Value::Bytes),
        _ => return Err(ProtocolError::UnknownType { name: super::error::shorten(name) }),
    };
    match typed {
        Some(value) => Ok(value),
        None => Err(ProtocolError::decode(
            format!("typed value {name}"),
            format!("found {}", shown(&entries.swap_remove(VALUE).unwrap_or_default())),
        )),
    }
}

/// Type name and payload of a value that JSON has no form for; `None` for all others.
pub(super) fn parts(value: &Value, precision: Precision) -> Option<(&'static str, Payload)> {
    let mut text = String::new();
    let name = match value {
        Value::DateTime(moment) => {
            iso8601::write_aware(&mut text, moment, precision);
            "datetime"
        }
        Value::NaiveDateTime(moment) => {
            iso8601::write_naive(&mut text, moment, precision);
            "datetime"
        }
        Value::Date(date) => {
            iso8601::write_date(&mut text, date);
            "date"
        }
        Value::Time(time) => {
            iso8601::write_time(&mut text, time, precision);
            "time"
        }
        Value::Decimal(digits) => {
            text.push_str(digits);
            "decimal"
        }
        Value::Uuid(uuid) => return Some(("uuid", Payload::Hex(uuid.simple().to_string()))),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(utf8) => {
                text.push_str(utf8);
                "bytes"
            }
            Err(_) => {
                STANDARD.encode_string(bytes, &mut text);
                "base64"
            }
        },
        _ => return None,
    };
    Some((name, Payload::Text(text)))
}

/// What stands under `__value__`.
pub(super) enum Payload {
    Text(String),
    /// `{"hex": ...}`, as kombu writes a UUID.
    Hex(String),
}

/// Appends the typed value as kombu writes it.
pub(super) fn write(value: &Value, out: &mut Vec<u8>) {
    let Some((name, payload)) = parts(value, Precision::Micros) else {
        out.extend_from_slice(b"null");
        return;
    };
    out.extend_from_slice(b"{\"__type__\": ");
    json::write_str(name, out);
    out.extend_from_slice(b", \"__value__\": ");
    match payload {
        Payload::Text(text) => json::write_str(&text, out),
        Payload::Hex(hex) => {
            out.extend_from_slice(b"{\"hex\": ");
            json::write_str(&hex, out);
            out.push(b'}');
        }
    }
    out.push(b'}');
}

/// Whether Python's `Decimal` takes the text.
fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    if matches!(lower.as_str(), "inf" | "infinity") {
        return true;
    }
    if let Some(payload) = lower.strip_prefix("snan").or_else(|| lower.strip_prefix("nan")) {
        return payload.bytes().all(|byte| byte.is_ascii_digit());
    }
    let (mantissa, exponent) = lower.split_once('e').map_or((lower.as_str(), None), |(m, e)| (m, Some(e)));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_is_right = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    whole.len() + fraction.len() > 0 && digits(whole) && digits(fraction) && exponent_is_right
}
