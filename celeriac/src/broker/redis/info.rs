//! Reading what a server says about itself: `INFO` and `CONFIG GET`.

use std::collections::HashMap;

use redis::Value;

use super::script::bytes;

/// The fields of an answer to `INFO`.
pub(super) struct Info(HashMap<String, String>);

impl Info {
    /// Reads an answer; `None` when it is none, as a user may lack the right to ask.
    pub(super) fn of(answer: &Value) -> Option<Self> {
        let text = match answer {
            Value::BulkString(text) => String::from_utf8_lossy(text),
            Value::VerbatimString { text, .. } => text.into(),
            _ => return None,
        };
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        };
        Some(Self(text.lines().filter_map(field).collect()))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

/// Returns the value in an answer to `CONFIG GET` of one parameter; `None` when the server does not tell.
pub(super) fn parameter(answer: &Value) -> Option<String> {
    let value = match answer {
        Value::Array(parts) => parts.get(1)?,
        Value::Map(entries) => &entries.first()?.1,
        _ => return None,
    };
    Some(String::from_utf8_lossy(bytes(value)?).into_owned())
}
