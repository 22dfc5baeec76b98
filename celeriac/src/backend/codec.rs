//! The record of a task as bytes and back.

use chrono::{DateTime, Utc};

use super::{ChordPart, ExceptionInfo, ResultRef, TaskMeta, TaskState};
use crate::message::{Map, ProtocolError, Value, format_iso8601, json};

impl TaskMeta {
    /// The JSON text that Celery stores, keys in its order.
    ///
    /// Source: celery 5.7 `celery/backends/base.py` `_get_result_meta`; samples `vectors/results`.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(256);
        text.extend_from_slice(b"{\"status\": ");
        string(&mut text, self.status.as_str());
        text.extend_from_slice(b", \"result\": ");
        json::write(&self.result, &mut text);
        text.extend_from_slice(b", \"traceback\": ");
        optional(&mut text, self.traceback.as_deref());
        text.extend_from_slice(b", \"children\": ");
        match self.children.as_deref() {
            Some([]) => text.extend_from_slice(b"[]"),
            Some(children) => json::write(&children.iter().map(ResultRef::to_value).collect(), &mut text),
            None => text.extend_from_slice(b"null"),
        }
        text.extend_from_slice(b", \"date_done\": ");
        optional(&mut text, self.date_done.map(format_iso8601).as_deref());
        if let Some(group_id) = &self.group_id {
            text.extend_from_slice(b", \"group_id\": ");
            string(&mut text, group_id);
        }
        if let Some(parent_id) = &self.parent_id {
            text.extend_from_slice(b", \"parent_id\": ");
            string(&mut text, parent_id);
        }
        for (name, value) in &self.extended {
            text.extend_from_slice(b", ");
            string(&mut text, name);
            text.extend_from_slice(b": ");
            json::write(value, &mut text);
        }
        text.extend_from_slice(b", \"task_id\": ");
        string(&mut text, &self.task_id);
        text.push(b'}');
        text
    }

    /// Reads what Celery or celeriac stored.
    ///
    /// # Errors
    /// [`ProtocolError`] when it is not JSON or has no status.
    pub fn decode(task_id: &str, stored: &[u8]) -> Result<Self, ProtocolError> {
        Self::from_value(task_id, json::loads(stored)?)
    }

    /// Reads a record that is deserialized already.
    ///
    /// # Errors
    /// [`ProtocolError`] when it has no status.
    pub(crate) fn from_value(task_id: &str, record: Value) -> Result<Self, ProtocolError> {
        let bad = |what: &str| ProtocolError::bad_body(format!("the result of task {task_id} has no {what}"));
        let Value::Map(mut fields) = record else { return Err(bad("fields")) };
        let mut take = |name: &str| fields.shift_remove(name).unwrap_or_default();
        let status = TaskState::from_name(take("status").as_str().ok_or_else(|| bad("status"))?);
        let text = Value::into_carried;
        let result = take("result");
        let traceback = text(take("traceback"));
        let children =
            take("children").as_list().map(|items| items.iter().filter_map(ResultRef::from_value).collect());
        let date_done = match take("date_done") {
            Value::Str(text) => DateTime::parse_from_rfc3339(&text).ok().map(|time| time.with_timezone(&Utc)),
            Value::DateTime(time) => Some(time.with_timezone(&Utc)),
            _ => None,
        };
        let (group_id, parent_id) = (text(take("group_id")), text(take("parent_id")));
        let task_id = text(take("task_id")).unwrap_or_else(|| task_id.to_owned());
        Ok(Self {
            task_id,
            status,
            result,
            traceback,
            children,
            date_done,
            group_id,
            parent_id,
            extended: fields,
        })
    }
}

impl ExceptionInfo {
    /// The object that Celery stores for an exception.
    pub fn to_value(&self) -> Value {
        let mut fields = Map::with_capacity(3);
        fields.insert("exc_type".to_owned(), Value::Str(self.exc_type.clone()));
        fields.insert("exc_message".to_owned(), Value::List(self.exc_message.clone()));
        fields.insert("exc_module".to_owned(), self.exc_module.clone().into());
        Value::Map(fields)
    }

    /// Reads such an object; anything else becomes an `Exception` with it as its argument.
    pub fn from_value(value: &Value) -> Self {
        let args = match value.get("exc_message") {
            Some(Value::List(args)) => args.clone(),
            Some(Value::Null) | None => Vec::new(),
            Some(single) => vec![single.clone()],
        };
        match value.get("exc_type").and_then(Value::as_str) {
            Some(class) => Self {
                exc_type: class.to_owned(),
                exc_message: args,
                exc_module: value.get("exc_module").and_then(Value::as_str).map(str::to_owned),
            },
            None => Self::new("builtins", "Exception", vec![value.clone()]),
        }
    }

    /// Python's `repr` of the exception: `ValueError('boom')`.
    pub fn repr(&self) -> String {
        // celery's class has a `__repr__` of its own (celery 5.7 `celery/exceptions.py`).
        if let ("Reject", Some("celery.exceptions"), [reason, requeue]) =
            (self.exc_type.as_str(), self.exc_module.as_deref(), self.exc_message.as_slice())
        {
            let reason = reason.as_str().map_or_else(|| crate::message::repr(reason), str::to_owned);
            return format!("reject requeue={}: {reason}", crate::message::repr(requeue));
        }
        let args: Vec<String> = self.exc_message.iter().map(crate::message::repr).collect();
        format!("{}({})", self.exc_type.rsplit('.').next().unwrap_or(&self.exc_type), args.join(", "))
    }

    /// Python's `str` of the exception.
    pub fn text(&self) -> String {
        match self.exc_message.as_slice() {
            [] => String::new(),
            [Value::Str(text)] => text.clone(),
            [Value::Surrogates(text)] => text.to_string(),
            [single] => crate::message::repr(single),
            args => crate::message::repr_args(args),
        }
    }

    /// A traceback in Python's form, with the place where the exception comes from: its last line is what Python's
    /// `traceback.format_exception_only` prints.
    pub fn traceback(&self, place: Option<&str>) -> String {
        let place = place.map_or_else(String::new, |place| format!("{}\n", place.trim_end()));
        let class = match self.exc_module.as_deref() {
            None | Some("builtins") => self.exc_type.clone(),
            Some(module) => format!("{module}.{}", self.exc_type),
        };
        let text = match self.exc_type.as_str() {
            // billiard's class has a `__str__` of its own (billiard 4.2 `billiard/exceptions.py`).
            "SoftTimeLimitExceeded" => self.repr(),
            _ => self.text(),
        };
        let colon = if text.is_empty() { "" } else { ": " };
        format!("Traceback (most recent call last):\n{place}{class}{colon}{text}\n")
    }
}

impl ChordPart {
    /// What is kept of a part until the chord is complete: `[1, task_id, state, result]`.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = b"[1, ".to_vec();
        string(&mut text, &self.task_id);
        text.extend_from_slice(b", ");
        string(&mut text, self.state.as_str());
        text.extend_from_slice(b", ");
        json::write(&self.result, &mut text);
        text.push(b']');
        text
    }
}

fn string(text: &mut Vec<u8>, value: &str) {
    json::write_str(value, text);
}

fn optional(text: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(value) => string(text, value),
        None => text.extend_from_slice(b"null"),
    }
}
