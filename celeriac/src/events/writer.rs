//! Writing one event straight to JSON.

use super::software::unix_now;
use crate::message::{Value, json};

/// An event being written, its fields in Celery's order: who, fields of its own, when, type.
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Begins an event with what its sender always says; `prefix` ends in `"clock": `.
    pub(super) fn begin(prefix: &[u8], clock: u64, out: &'a mut Vec<u8>) -> Self {
        out.extend_from_slice(prefix);
        json::write(&Value::from(clock), out);
        Self { out }
    }

    pub(super) fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.key(name);
        json::write_str(text, self.out);
        self
    }

    pub(super) fn optional(&mut self, name: &str, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(name, text),
            None => self.value(name, &Value::Null),
        }
    }

    pub(super) fn value(&mut self, name: &str, value: &Value) -> &mut Self {
        self.key(name);
        json::write(value, self.out);
        self
    }

    /// Ends the event with the time and its type.
    pub(super) fn end(&mut self, kind: &str) {
        self.value("timestamp", &Value::Float(unix_now())).text("type", kind);
        self.out.push(b'}');
    }

    fn key(&mut self, name: &str) {
        self.out.extend_from_slice(b", ");
        json::write_str(name, self.out);
        self.out.extend_from_slice(b": ");
    }
}
