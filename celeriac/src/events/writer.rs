//! Writing one event straight to JSON.

use std::time::Duration;

use super::software::unix_time;
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

    /// A field of the name's own choosing.
    pub(super) fn field(&mut self, name: &str, value: &Value) {
        self.out.extend_from_slice(b", ");
        json::write_str(name, self.out);
        self.out.extend_from_slice(b": ");
        json::write(value, self.out);
    }

    #[inline]
    pub(super) fn text(&mut self, name: &'static str, text: &str) -> &mut Self {
        self.key(name);
        json::write_str(text, self.out);
        self
    }

    pub(super) fn optional(&mut self, name: &'static str, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(name, text),
            None => self.value(name, &Value::Null),
        }
    }

    #[inline]
    pub(super) fn value(&mut self, name: &'static str, value: &Value) -> &mut Self {
        self.key(name);
        json::write(value, self.out);
        self
    }

    pub(super) fn seconds(&mut self, name: &'static str, time: Duration) -> &mut Self {
        self.key(name);
        json::write_seconds(time, self.out);
        self
    }

    /// Ends the event with the time and its type.
    pub(super) fn end(&mut self, kind: &str) {
        self.seconds("timestamp", unix_time()).text("type", kind);
        self.out.push(b'}');
    }

    /// Names in the source need no escapes; inlined, they are no calls to copy some bytes.
    #[inline]
    fn key(&mut self, name: &'static str) {
        self.out.extend_from_slice(b", \"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\": ");
    }
}
