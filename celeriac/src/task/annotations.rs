//! `task_annotations`: attributes of tasks that the settings change.
//!
//! Source: celery 5.7 `celery/app/annotations.py`: first those under the task's name, then those under `*`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{TaskDefinition, TaskOptions};
use crate::config::{BodySerializer, Compression, RateLimit, SettingValue};

/// The value of a setting `task_annotations`.
type Annotations = BTreeMap<String, Map<String, Value>>;

impl TaskDefinition {
    /// Sets the attributes that the annotations give this task.
    ///
    /// # Errors
    /// Those that cannot be set, each as a sentence; the others are set all the same.
    pub(crate) fn annotate(&mut self, annotations: &Annotations) -> Result<(), Vec<String>> {
        let mut wrong = Vec::new();
        for key in [&*self.name, "*"] {
            for (attribute, value) in annotations.get(key).into_iter().flatten() {
                if let Err(expected) = self.options.set_attribute(attribute, value) {
                    wrong.push(format!(
                        "task_annotations[{key:?}]: {attribute} is {value} for task {}, expected {expected}",
                        self.name
                    ));
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

impl TaskOptions {
    /// Sets one attribute by Celery's name; the error says what it may be.
    fn set_attribute(&mut self, attribute: &str, value: &Value) -> Result<(), &'static str> {
        match attribute {
            "max_retries" => self.max_retries = count(value)?,
            "default_retry_delay" => self.default_retry_delay = number(value)?.ok_or(NUMBER)?,
            "acks_late" => self.acks_late = flag(value)?,
            "acks_on_failure_or_timeout" => {
                self.acks_on_failure = flag(value)?;
                self.acks_on_timeout = self.acks_on_failure;
            }
            "acks_on_failure" => self.acks_on_failure = flag(value)?,
            "acks_on_timeout" => self.acks_on_timeout = flag(value)?,
            "reject_on_worker_lost" => self.reject_on_worker_lost = flag(value)?,
            "ignore_result" => self.ignore_result = flag(value)?,
            "store_errors_even_if_ignored" => self.store_errors_even_if_ignored = flag(value)?,
            "track_started" => self.track_started = flag(value)?,
            "time_limit" => self.time_limit = number(value)?,
            "soft_time_limit" => self.soft_time_limit = number(value)?,
            "rate_limit" => self.rate_limit = rate_limit(value)?,
            "queue" => self.queue = text(value)?,
            "exchange" => self.exchange = text(value)?,
            "routing_key" => self.routing_key = text(value)?,
            "priority" => {
                self.priority = count(value)?.map(|priority| priority.min(u8::MAX.into()) as u8);
            }
            "serializer" => {
                self.serializer = named::<BodySerializer>(value, "json, msgpack, yaml, auth or encrypted")?
            }
            "compression" => {
                self.compression = named::<Compression>(value, "gzip, bzip2, zstd, lzma or brotli")?;
            }
            "expires" => self.expires = number(value)?,
            "send_events" => self.send_events = flag(value)?.unwrap_or(true),
            "retry_backoff" => {
                self.retry_backoff = match value {
                    Value::Bool(is_on) => is_on.then_some(1.0),
                    value => number(value)?,
                };
            }
            "retry_backoff_max" => self.retry_backoff_max = number(value)?.ok_or(NUMBER)?,
            "retry_jitter" => self.retry_jitter = flag(value)?.unwrap_or(true),
            _ => return Err("one of Celery's task attributes that are values"),
        }
        Ok(())
    }
}

const NUMBER: &str = "a number that is not negative";

fn flag(value: &Value) -> Result<Option<bool>, &'static str> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(*flag)),
        // As Python counts numbers.
        Value::Number(number) => Ok(Some(number.as_f64() != Some(0.0))),
        _ => Err("true, false or null"),
    }
}

fn number(value: &Value) -> Result<Option<f64>, &'static str> {
    match value {
        Value::Null => Ok(None),
        value => value.as_f64().filter(|number| *number >= 0.0).map(Some).ok_or(NUMBER),
    }
}

fn count(value: &Value) -> Result<Option<u32>, &'static str> {
    match value {
        Value::Null => Ok(None),
        value => value
            .as_u64()
            .and_then(|count| u32::try_from(count).ok())
            .map(Some)
            .ok_or("a whole number that is not negative, or null"),
    }
}

fn text(value: &Value) -> Result<Option<String>, &'static str> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err("text or null"),
    }
}

/// The name of a serializer or a compression.
fn named<T: SettingValue>(value: &Value, expected: &'static str) -> Result<Option<String>, &'static str> {
    match text(value)? {
        Some(name) if T::from_text(&name).is_err() => Err(expected),
        name => Ok(name),
    }
}

fn rate_limit(value: &Value) -> Result<Option<String>, &'static str> {
    let limit = match value {
        Value::Number(per_second) => Some(per_second.to_string()),
        value => text(value)?,
    };
    match limit.as_deref().map(RateLimit::parse) {
        Some(Err(_)) => Err("a rate such as 10/s, 100/m or 5/h"),
        _ => Ok(limit),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn annotations(value: Value) -> Annotations {
        serde_json::from_value(value).unwrap()
    }

    fn task() -> TaskDefinition {
        TaskDefinition::from_async("proj.add", |_| async { Ok(crate::Value::Null) })
    }

    #[test]
    fn those_of_all_tasks_are_set_after_those_of_the_task() {
        let mut task = task();
        let annotations = annotations(json!({
            "proj.add": {"rate_limit": "10/s", "acks_late": true, "time_limit": 5},
            "*": {"time_limit": 9.5},
            "proj.other": {"time_limit": 1},
        }));
        assert_eq!(task.annotate(&annotations), Ok(()));
        assert_eq!(task.options.rate_limit.as_deref(), Some("10/s"));
        assert_eq!((task.options.acks_late, task.options.time_limit), (Some(true), Some(9.5)));
    }

    #[test]
    fn what_cannot_be_set_is_named_with_its_value() {
        let mut task = task();
        let annotations = annotations(json!({"*": {"rate_limit": "fast", "on_failure": "f", "priority": 3}}));
        let wrong = task.annotate(&annotations).unwrap_err();
        assert_eq!(wrong.len(), 2);
        assert!(wrong[0].contains("rate_limit is \"fast\" for task proj.add, expected a rate"), "{wrong:?}");
        assert_eq!(task.options.priority, Some(3));
    }

    #[test]
    fn numbers_count_as_in_python_and_unknown_serializers_are_named() {
        let mut task = task();
        let right = json!({"*": {"acks_late": 1, "track_started": 0, "time_limit": 0, "serializer": "yaml"}});
        assert_eq!(task.annotate(&annotations(right)), Ok(()));
        assert_eq!((task.options.acks_late, task.options.track_started), (Some(true), Some(false)));
        for (attribute, value) in [("serializer", "pickle"), ("compression", "rar")] {
            let wrong = task.annotate(&annotations(json!({"*": {attribute: value}}))).unwrap_err();
            assert!(wrong[0].contains(attribute) && wrong[0].contains(value), "{wrong:?}");
        }
    }
}
