//! What scalars mean, as PyYAML 6 (`yaml/resolver.py`, `yaml/constructor.py`) says.

use std::sync::LazyLock;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chrono::{FixedOffset, NaiveDate};
use regex::Regex;

use super::super::Value;
use super::super::error::{ProtocolError, shorten};
use super::NAME;
use super::big::Big;

/// What a plain scalar without a tag can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Float,
    Int,
    /// `<<`
    Merge,
    Null,
    Timestamp,
    /// `=`
    Value,
    Text,
}

/// The patterns of `yaml/resolver.py`.
struct Patterns {
    float: Regex,
    int: Regex,
    timestamp: Regex,
    /// Of `yaml/constructor.py`.
    moment: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        float: pattern(
            r"^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+][0-9]+)?
            |\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?
            |[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*
            |[-+]?\.(?:inf|Inf|INF)
            |\.(?:nan|NaN|NAN))$",
        )?,
        int: pattern(
            r"^(?:[-+]?0b[0-1_]+
            |[-+]?0[0-7_]+
            |[-+]?(?:0|[1-9][0-9_]*)
            |[-+]?0x[0-9a-fA-F_]+
            |[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$",
        )?,
        timestamp: pattern(
            r"^(?:[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]
            |[0-9][0-9][0-9][0-9]-[0-9][0-9]?-[0-9][0-9]?
             (?:[Tt]|[\x20\t]+)[0-9][0-9]?
             :[0-9][0-9]:[0-9][0-9](?:\.[0-9]*)?
             (?:[\x20\t]*(?:Z|[-+][0-9][0-9]?(?::[0-9][0-9])?))?)$",
        )?,
        moment: pattern(
            r"^(?P<year>[0-9][0-9][0-9][0-9])
            -(?P<month>[0-9][0-9]?)
            -(?P<day>[0-9][0-9]?)
            (?:(?:[Tt]|[\x20\t]+)
            (?P<hour>[0-9][0-9]?)
            :(?P<minute>[0-9][0-9])
            :(?P<second>[0-9][0-9])
            (?:\.(?P<fraction>[0-9]*))?
            (?:[\x20\t]*(?P<tz>Z|(?P<tz_sign>[-+])(?P<tz_hour>[0-9][0-9]?)
            (?::(?P<tz_minute>[0-9][0-9]))?))?)?$",
        )?,
    })
});

fn pattern(text: &str) -> Option<Regex> {
    Regex::new(&format!("(?x){text}")).ok()
}

/// What a plain scalar without a tag is.
pub(super) fn resolve(text: &str) -> Kind {
    match text {
        "yes" | "Yes" | "YES" | "no" | "No" | "NO" | "true" | "True" | "TRUE" | "false" | "False"
        | "FALSE" | "on" | "On" | "ON" | "off" | "Off" | "OFF" => return Kind::Bool,
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "<<" => return Kind::Merge,
        "=" => return Kind::Value,
        _ => {}
    }
    let Some(patterns) = &*PATTERNS else { return Kind::Text };
    match text.as_bytes()[0] {
        b'-' | b'+' | b'.' | b'0'..=b'9' if patterns.float.is_match(text) => Kind::Float,
        b'-' | b'+' | b'0'..=b'9' if patterns.int.is_match(text) => Kind::Int,
        b'0'..=b'9' if patterns.timestamp.is_match(text) => Kind::Timestamp,
        _ => Kind::Text,
    }
}

/// The value of a plain scalar.
///
/// # Errors
/// It is a number or time that Python cannot make either, or one of the signs that stand for no value.
pub(super) fn construct(kind: Kind, text: &str) -> Result<Value, ProtocolError> {
    let (name, value) = match kind {
        Kind::Text => return Ok(super::plain(text)),
        Kind::Null => return Ok(Value::Null),
        Kind::Bool => ("bool", boolean(text)),
        Kind::Int => ("int", int(text)),
        Kind::Float => ("float", float(text).map(Value::Float)),
        Kind::Timestamp => ("timestamp", timestamp(text)),
        Kind::Merge => ("merge", None),
        Kind::Value => ("value", None),
    };
    value.ok_or_else(|| wrong(name, text))
}

/// The value of a scalar with a tag.
///
/// # Errors
/// The safe loader has no constructor for the tag, or the text is none of that type.
pub(super) fn construct_tagged(name: &str, text: &str) -> Result<Value, ProtocolError> {
    let kind = match name {
        "str" => Kind::Text,
        "null" => Kind::Null,
        "bool" => Kind::Bool,
        "int" => Kind::Int,
        "float" => Kind::Float,
        "timestamp" => Kind::Timestamp,
        "binary" => return binary(text).ok_or_else(|| wrong(name, text)),
        _ => return Err(super::no_constructor(name)),
    };
    construct(kind, text)
}

fn wrong(name: &str, text: &str) -> ProtocolError {
    ProtocolError::decode(NAME, format!("{:?} is no {name}", shorten(text)))
}

fn boolean(text: &str) -> Option<Value> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" => Some(Value::Bool(true)),
        "no" | "false" | "off" => Some(Value::Bool(false)),
        _ => None,
    }
}

/// `base64.decodebytes`: what is no character of it is passed over.
fn binary(text: &str) -> Option<Value> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true);
    let is_known = |character: &char| character.is_ascii_alphanumeric() || "+/=".contains(*character);
    let packed: String = text.chars().filter(is_known).collect();
    GeneralPurpose::new(&alphabet::STANDARD, CONFIG)
        .decode(packed)
        .ok()
        .filter(|_| text.is_ascii())
        .map(Value::Bytes)
}

fn signed(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

fn int(text: &str) -> Option<Value> {
    let text = text.replace('_', "");
    let (negative, digits) = signed(&text);
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', _, ..] => (8, digits),
        _ => (10, digits),
    };
    let mut number = Big::default();
    for (place, part) in digits.split(':').enumerate() {
        if part.is_empty() || place > 0 && radix != 10 {
            return None;
        }
        if place == 0 {
            part.chars().try_for_each(|digit| number.push(radix, digit.to_digit(radix)?))?;
        } else {
            number.push(60, part.parse().ok().filter(|digit| *digit < 60)?)?;
        }
    }
    let digits = number.decimal()?;
    let digits = if negative && digits != "0" { format!("-{digits}") } else { digits };
    Some(digits.parse().map_or(Value::BigInt(digits), Value::Int))
}

fn float(text: &str) -> Option<f64> {
    let text = text.replace('_', "").to_ascii_lowercase();
    let (negative, unsigned) = signed(&text);
    let number = match unsigned {
        ".inf" => f64::INFINITY,
        ".nan" => return Some(f64::NAN),
        _ => {
            let (mut base, mut number) = (1.0, 0.0);
            for part in unsigned.rsplit(':') {
                if part.starts_with(['+', '-', 'i', 'n']) {
                    return None;
                }
                number += part.parse::<f64>().ok()? * base;
                base *= 60.0;
            }
            number
        }
    };
    Some(if negative { -number } else { number })
}

fn timestamp(text: &str) -> Option<Value> {
    let found = PATTERNS.as_ref()?.moment.captures(text)?;
    let part = |name: &str| found.name(name).map(|part| part.as_str());
    let number = |name: &str| part(name).map_or(Some(0), |part| part.parse::<u32>().ok());
    let year = number("year").filter(|year| *year > 0)?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, number("month")?, number("day")?)?;
    if part("hour").is_none() {
        return Some(Value::Date(date));
    }
    let fraction: String =
        part("fraction").unwrap_or_default().chars().chain("000000".chars()).take(6).collect();
    let micros = fraction.parse().ok()?;
    let moment = date.and_hms_micro_opt(number("hour")?, number("minute")?, number("second")?, micros)?;
    let seconds = i32::try_from(number("tz_hour")? * 3600 + number("tz_minute")? * 60).ok()?;
    let offset = match part("tz_sign") {
        Some("-") => FixedOffset::west_opt(seconds)?,
        Some(_) => FixedOffset::east_opt(seconds)?,
        None if part("tz").is_some() => FixedOffset::east_opt(0)?,
        None => return Some(Value::NaiveDateTime(moment)),
    };
    moment.and_local_timezone(offset).single().map(Value::DateTime)
}
