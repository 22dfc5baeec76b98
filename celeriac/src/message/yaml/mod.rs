//! YAML as PyYAML's safe loader and dumper know it: version 1.1, with timestamps.
//!
//! Text is read event by event rather than through serde, because only the events tell a quoted `"2026-01-02"` from
//! a date.

mod big;
mod escapes;
mod loader;
mod resolve;
mod write;

use super::error::ProtocolError;
use super::iso8601::{self, Precision};
use super::surrogates::carried;
use super::{Value, json};
use serde_saphyr::granit_parser::Tag;

pub(super) use loader::loads;
pub(super) use write::dumps;

const NAME: &str = "yaml";

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

/// Text that stands for itself, whatever it begins with.
fn plain(text: &str) -> Value {
    Value::Str(text.to_owned())
}

/// Keys that are no text become what JSON would make of them.
fn key_text(key: Value) -> Result<String, ProtocolError> {
    match key {
        Value::Str(text) => Ok(carried(text)),
        Value::Surrogates(text) => Ok(text.into_carried()),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Float(_) => {
            Ok(json::dumps(&key))
        }
        Value::Date(_) | Value::DateTime(_) | Value::NaiveDateTime(_) => Ok(timestamp(&key)),
        other => Err(ProtocolError::decode(NAME, format!("{} as a key", other.kind()))),
    }
}

/// The safe loader knows no such tag here.
fn refused(tag: Option<&Tag>) -> ProtocolError {
    no_constructor(&tag.map(Tag::original).unwrap_or_default())
}

fn no_constructor(tag: &str) -> ProtocolError {
    ProtocolError::decode(NAME, format!("no constructor for the tag {}", super::error::shorten(tag)))
}
