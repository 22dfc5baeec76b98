//! YAML as PyYAML's safe loader and dumper know it: version 1.1, with timestamps.
//!
//! Text is read event by event rather than through serde, because only the events tell a quoted `"2026-01-02"` from
//! a date. What is written is one line of flow style, in which every text is quoted.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

use super::error::ProtocolError;
use super::iso8601::{self, Moment, Precision};
use super::json;
use super::{Map, Value};

const NAME: &str = "yaml";
const TAG_PREFIX: &str = "tag:yaml.org,2002:";
/// Less than in JSON, as each level takes more of the stack.
const MAX_DEPTH: usize = 128;
/// Most values that aliases may stand for in one document: a few lines of them could stand for billions.
const MAX_ALIASED: usize = 100_000;

/// Reads one document.
pub(super) fn loads(data: &[u8]) -> Result<Value, ProtocolError> {
    let text = std::str::from_utf8(data).map_err(|error| ProtocolError::decode(NAME, error))?;
    let mut loader = Loader { parser: Parser::new_from_str(text), anchors: Vec::new(), aliased: 0 };
    loop {
        match loader.next()? {
            Event::StreamEnd => return Ok(Value::Null),
            Event::StreamStart | Event::DocumentStart(..) | Event::Comment(..) => {}
            event => {
                let value = loader.node(event, 0)?;
                return match (loader.next()?, loader.next()?) {
                    (Event::DocumentEnd, Event::StreamEnd) => Ok(value),
                    _ => Err(ProtocolError::decode(NAME, "more than one document")),
                };
            }
        }
    }
}

/// Writes one document.
pub(super) fn dumps(value: &Value) -> Result<String, ProtocolError> {
    let mut out = String::new();
    write(value, &mut out)?;
    out.push('\n');
    Ok(out)
}

struct Loader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Anchored values by their ids.
    anchors: Vec<(usize, Value)>,
    aliased: usize,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<Event<'a>, ProtocolError> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, _))) => return Ok(event),
                Some(Err(error)) => return Err(ProtocolError::decode(NAME, error)),
                None => return Ok(Event::StreamEnd),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Value, ProtocolError> {
        if depth > MAX_DEPTH {
            return Err(ProtocolError::TooDeep { limit: MAX_DEPTH });
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(&text, style, tag.as_deref())?, anchor),
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "seq")?;
                (self.sequence(depth)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "map")?;
                (self.mapping(depth)?, anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor),
            event => return Err(ProtocolError::decode(NAME, format!("unexpected {event:?}"))),
        };
        if anchor != 0 {
            self.anchors.push((anchor, value.clone()));
        }
        Ok(value)
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, ProtocolError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Value::List(items)),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, ProtocolError> {
        let mut entries = Map::new();
        let mut merged = Vec::new();
        loop {
            let event = match self.next()? {
                Event::MappingEnd => break,
                event => event,
            };
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node(event, depth + 1)?;
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            if is_merge {
                merged.push(value);
            } else {
                entries.insert(key_text(key)?, value);
            }
        }
        for value in merged {
            merge(&mut entries, value)?;
        }
        Ok(Value::Map(entries))
    }

    fn alias(&mut self, anchor: usize) -> Result<Value, ProtocolError> {
        let found = self.anchors.iter().rev().find(|(id, _)| *id == anchor);
        let (_, value) =
            found.ok_or_else(|| ProtocolError::decode(NAME, "an alias within what it stands for"))?;
        self.aliased = self.aliased.saturating_add(count(value));
        if self.aliased > MAX_ALIASED {
            return Err(ProtocolError::decode(NAME, "aliases stand for too many values"));
        }
        Ok(value.clone())
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::List(items) => items.iter().map(count).fold(1, usize::saturating_add),
        Value::Map(entries) => entries.values().map(count).fold(1, usize::saturating_add),
        _ => 1,
    }
}

/// `<<`: entries of other mappings that this one does not have itself.
fn merge(entries: &mut Map, value: Value) -> Result<(), ProtocolError> {
    match value {
        Value::Map(others) => {
            for (key, value) in others {
                entries.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::List(items) => items.into_iter().try_for_each(|item| merge(entries, item)),
        other => Err(ProtocolError::decode(NAME, format!("cannot merge {}", other.kind()))),
    }
}

/// Keys that are no text become what JSON would make of them.
fn key_text(key: Value) -> Result<String, ProtocolError> {
    match key {
        Value::Str(text) => Ok(text),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Float(_) => {
            Ok(json::dumps(&key))
        }
        Value::Date(_) | Value::DateTime(_) | Value::NaiveDateTime(_) => Ok(timestamp(&key)),
        other => Err(ProtocolError::decode(NAME, format!("{} as a key", other.kind()))),
    }
}

fn check_tag(tag: Option<&Tag>, kind: &str) -> Result<(), ProtocolError> {
    let Some(tag) = tag else { return Ok(()) };
    match tag.suffix_in_namespace(TAG_PREFIX).as_deref() {
        Some(suffix) if suffix == kind || (kind == "seq" && suffix == "python/tuple") => Ok(()),
        _ => Err(refused(tag)),
    }
}

fn refused(tag: &Tag) -> ProtocolError {
    ProtocolError::decode(
        NAME,
        format!("no constructor for the tag {}", super::error::shorten(&tag.original())),
    )
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, ProtocolError> {
    let Some(tag) = tag else {
        return Ok(if style == ScalarStyle::Plain { resolve(text) } else { Value::from(text) });
    };
    let suffix = tag.suffix_in_namespace(TAG_PREFIX).ok_or_else(|| refused(tag))?;
    let value = match suffix.as_ref() {
        "str" => return Ok(Value::from(text)),
        "binary" => {
            let packed: String = text.split_whitespace().collect();
            return STANDARD
                .decode(packed)
                .map(Value::Bytes)
                .map_err(|error| ProtocolError::decode(NAME, error));
        }
        _ => resolve(text),
    };
    match (suffix.as_ref(), &value) {
        ("null", Value::Null) | ("bool", Value::Bool(_)) | ("int", Value::Int(_) | Value::BigInt(_)) => {
            Ok(value)
        }
        ("float", Value::Float(_)) => Ok(value),
        ("float", Value::Int(number)) => Ok(Value::Float(*number as f64)),
        ("timestamp", Value::Date(_) | Value::DateTime(_) | Value::NaiveDateTime(_)) => Ok(value),
        _ => Err(refused(tag)),
    }
}

/// What a plain scalar means in YAML 1.1, as `yaml/resolver.py` (PyYAML 6) says.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    number(text).or_else(|| moment(text)).unwrap_or_else(|| Value::from(text))
}

fn number(text: &str) -> Option<Value> {
    let (negative, unsigned) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    match unsigned {
        ".inf" | ".Inf" | ".INF" => {
            return Some(Value::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY }));
        }
        ".nan" | ".NaN" | ".NAN" if unsigned.len() == text.len() => return Some(Value::Float(f64::NAN)),
        _ => {}
    }
    let first = *unsigned.as_bytes().first()?;
    if !(first.is_ascii_digit() || first == b'.') {
        return None;
    }
    let plain = unsigned.replace('_', "");
    let all = |text: &str, set: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(set);
    let sign = if negative { "-" } else { "" };
    if let Some(digits) = plain.strip_prefix("0x") {
        return all(digits, u8::is_ascii_hexdigit).then(|| radix(digits, 16, negative))?;
    }
    if let Some(digits) = plain.strip_prefix("0b") {
        return all(digits, |byte| matches!(byte, b'0' | b'1')).then(|| radix(digits, 2, negative))?;
    }
    if plain.contains(':') {
        return sexagesimal(&plain, negative);
    }
    if all(&plain, u8::is_ascii_digit) && first != b'.' {
        if plain.len() > 1 && plain.starts_with('0') {
            return all(&plain, |byte| matches!(byte, b'0'..=b'7')).then(|| radix(&plain, 8, negative))?;
        }
        let digits = format!("{sign}{plain}");
        return Some(digits.parse().map_or(Value::BigInt(digits), Value::Int));
    }
    float(&plain).map(|number| Value::Float(if negative { -number } else { number }))
}

/// A float has a point, and a sign in its exponent.
fn float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_is_right = exponent.is_none_or(|exponent| {
        exponent.strip_prefix(['+', '-']).is_some_and(|exponent| !exponent.is_empty() && digits(exponent))
    });
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) || !exponent_is_right {
        return None;
    }
    text.parse().ok()
}

fn radix(digits: &str, radix: u32, negative: bool) -> Option<Value> {
    let number = i128::from_str_radix(digits, radix).ok()?;
    let number = if negative { -number } else { number };
    Some(i64::try_from(number).map_or_else(|_| Value::BigInt(number.to_string()), Value::Int))
}

/// `190:20:30`, a number in base 60.
fn sexagesimal(text: &str, negative: bool) -> Option<Value> {
    let sign = if negative { -1 } else { 1 };
    let (whole, fraction) =
        text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut total = 0_i64;
    for (place, part) in whole.split(':').enumerate() {
        let digits: i64 =
            if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse().ok()? } else { return None };
        if place > 0 && (part.len() > 2 || digits > 59) {
            return None;
        }
        total = total.checked_mul(60)?.checked_add(digits)?;
    }
    match fraction {
        None if whole.starts_with('0') => None,
        None => Some(Value::Int(sign * total)),
        Some(fraction) => {
            let fraction: f64 = format!("0.{fraction}0").parse().ok()?;
            Some(Value::Float(sign as f64 * (total as f64 + fraction)))
        }
    }
}

/// A date, or a date and time with at least seconds.
fn moment(text: &str) -> Option<Value> {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || !bytes[..4].iter().all(u8::is_ascii_digit) || bytes[4] != b'-' {
        return None;
    }
    match iso8601::parse_moment(text)? {
        Moment::Naive(moment) if text.len() == 10 => Some(Value::Date(moment.date())),
        Moment::Naive(moment) if text.matches(':').count() == 2 => Some(Value::NaiveDateTime(moment)),
        Moment::Aware(moment) if text.len() > 18 => Some(Value::DateTime(moment)),
        _ => None,
    }
}

fn timestamp(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::DateTime(moment) => iso8601::write_aware(&mut text, moment, Precision::Micros),
        Value::NaiveDateTime(moment) => iso8601::write_naive(&mut text, moment, Precision::Micros),
        Value::Date(date) => iso8601::write_date(&mut text, date),
        _ => {}
    }
    text.replace('T', " ")
}

fn write(value: &Value, out: &mut String) -> Result<(), ProtocolError> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Int(number) => {
            let _ = write!(out, "{number}");
        }
        Value::BigInt(digits) => out.push_str(digits),
        Value::Float(number) => write_float(*number, out),
        Value::Str(text) => write_str(text, out),
        Value::Bytes(bytes) => {
            let _ = write!(out, "!!binary \"{}\"", STANDARD.encode(bytes));
        }
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                // A quoted key of more than 1024 characters has to be announced.
                out.push_str(if key.len() > 128 { "? " } else { "" });
                write_str(key, out);
                out.push_str(": ");
                write(item, out)?;
            }
            out.push('}');
        }
        Value::DateTime(_) | Value::NaiveDateTime(_) | Value::Date(_) => out.push_str(&timestamp(value)),
        other => return Err(ProtocolError::encode(NAME, format!("has no form for {}", other.kind()))),
    }
    Ok(())
}

fn write_float(number: f64, out: &mut String) {
    if number.is_nan() {
        out.push_str(".nan");
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 { ".inf" } else { "-.inf" });
    } else {
        let mut digits = Vec::with_capacity(24);
        json::write_finite(number, &mut digits);
        let text = String::from_utf8_lossy(&digits);
        match text.split_once('e') {
            Some((mantissa, exponent)) if !mantissa.contains('.') => {
                let _ = write!(out, "{mantissa}.0e{exponent}");
            }
            _ => out.push_str(&text),
        }
    }
}

fn write_str(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        let _ = match character {
            '"' => write!(out, "\\\""),
            '\\' => write!(out, "\\\\"),
            ' '..='~' => {
                out.push(character);
                Ok(())
            }
            _ => match u32::from(character) {
                code @ ..0x100 => write!(out, "\\x{code:02X}"),
                code @ 0x100..0x1_0000 => write!(out, "\\u{code:04X}"),
                code => write!(out, "\\U{code:08X}"),
            },
        };
    }
    out.push('"');
}
