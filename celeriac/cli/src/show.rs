//! Replies as `celery` shows them to people.
//!
//! Source: celery 5.7 `CLIContext` in `celery/bin/base.py`.

use celeriac::message::{Map, Value, repr};

use crate::failure::Failure;
use crate::out::say;

/// A reply with its content.
pub(crate) fn show_reply(node: &str, reply: &Value, quiet: bool) -> Result<(), Failure> {
    show_status(node, reply, quiet)?;
    let (_, body) = pretty(reply);
    if body.is_empty() { Ok(()) } else { say(indented(&body)) }
}

/// Whether a node replied well.
pub(crate) fn show_status(node: &str, reply: &Value, quiet: bool) -> Result<(), Failure> {
    let arrow = if quiet { "" } else { "-> " };
    say(format_args!("{arrow} {node}: {}", pretty(reply).0))
}

/// The text of a value as Python's `str` gives it.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Str(text) => text.clone(),
        value => repr(value),
    }
}

fn pretty(reply: &Value) -> (&'static str, String) {
    match reply {
        Value::List(items) if items.is_empty() => ("OK", "- empty -".to_owned()),
        Value::List(items) => {
            let lines: Vec<String> = items.iter().map(|item| format!("* {}", text(item))).collect();
            ("OK", lines.join("\n"))
        }
        Value::Map(entries) => match (entries.get("ok"), entries.get("error")) {
            (Some(ok), _) => ("OK", indented(&pretty(ok).1)),
            (None, Some(error)) => ("ERROR", indented(&pretty(error).1)),
            (None, None) => ("OK", sorted_json(entries)),
        },
        value => ("OK", text(value)),
    }
}

fn sorted_json(entries: &Map) -> String {
    fn sorted(value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Object(entries) => {
                let mut entries: Vec<_> =
                    entries.into_iter().map(|(name, value)| (name, sorted(value))).collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                serde_json::Value::Object(entries.into_iter().collect())
            }
            serde_json::Value::Array(items) => items.into_iter().map(sorted).collect(),
            value => value,
        }
    }
    let mut json = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut json, formatter);
    let read = serde_json::from_str(&celeriac::message::json::dumps(&Value::Map(entries.clone())));
    let value: serde_json::Value = read.unwrap_or_default();
    // Into memory, of what was just read: it cannot fail.
    let _ = serde::Serialize::serialize(&sorted(value), &mut serializer);
    String::from_utf8_lossy(&json).into_owned()
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| format!("    {line}")).collect();
    lines.join("\n")
}
