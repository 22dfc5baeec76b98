//! `broker_transport_options` and `result_backend_transport_options`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::value::SettingValue;

/// Options of a transport under kombu's names. Unknown ones are kept: other transports have their own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransportOptions(pub Map<String, Value>);

impl TransportOptions {
    /// The option as it was given.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text option such as `global_keyprefix` or `master_name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// An option in seconds such as `visibility_timeout` or `socket_timeout`.
    pub fn seconds(&self, name: &str) -> Option<Duration> {
        self.get(name).and_then(|value| Duration::from_json(value).ok())
    }

    /// A whole number such as `max_connections`.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(|value| u64::from_json(value).ok())
    }

    /// A switch such as `fanout_prefix`.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(|value| bool::from_json(value).ok())
    }

    /// Time after which an unacknowledged message of a silent worker comes back; one hour by default
    /// (`kombu/transport/redis.py`, kombu 5.7).
    pub fn visibility_timeout(&self) -> Duration {
        self.seconds("visibility_timeout").unwrap_or(Duration::from_secs(3600))
    }

    /// Priorities that have a list of their own on Redis; 0, 3, 6 and 9 by default.
    pub fn priority_steps(&self) -> Vec<u8> {
        let steps = self.get("priority_steps").and_then(|value| Vec::<u8>::from_json(value).ok());
        steps.filter(|steps| !steps.is_empty()).unwrap_or_else(|| vec![0, 3, 6, 9])
    }

    fn problem(name: &str, value: &Value) -> Option<String> {
        let wrong = match name {
            _ if value.is_null() => false,
            "visibility_timeout" | "socket_timeout" | "socket_connect_timeout" | "polling_interval" => {
                Duration::from_json(value).is_err()
            }
            "fanout_prefix" | "fanout_patterns" => bool::from_json(value).is_err() && !value.is_string(),
            "socket_keepalive" | "retry_on_timeout" | "sentinel_fanout_compat" => {
                bool::from_json(value).is_err()
            }
            "priority_steps" => {
                !value.as_array().is_some_and(|steps| steps.iter().all(|step| u8::from_json(step).is_ok()))
            }
            "sep" | "global_keyprefix" | "master_name" | "queue_order_strategy" => !value.is_string(),
            "max_connections" | "health_check_interval" | "min_other_sentinels" => {
                f64::from_json(value).is_err()
            }
            "sentinel_kwargs" => !value.is_object(),
            _ => false,
        };
        wrong.then(|| format!("another value of `{name}` in it: {}", expected_option(name)))
    }
}

fn expected_option(name: &str) -> &'static str {
    match name {
        "priority_steps" => "a list of whole numbers from 0 to 255",
        "sep" | "global_keyprefix" | "master_name" | "queue_order_strategy" => "text",
        "fanout_prefix" | "fanout_patterns" => "true, false or text",
        "socket_keepalive" | "retry_on_timeout" | "sentinel_fanout_compat" => "true or false",
        "sentinel_kwargs" => "a mapping such as {\"password\": \"...\"}",
        _ => "a number, 0 or more",
    }
}

impl SettingValue for TransportOptions {
    fn expected() -> String {
        "a mapping of transport options, as JSON: {\"visibility_timeout\": 3600}".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        let options = value.as_object().ok_or_else(Self::expected)?;
        match options.iter().find_map(|(name, value)| Self::problem(name, value)) {
            Some(problem) => Err(problem),
            None => Ok(Self(options.clone())),
        }
    }

    fn to_json(&self) -> Value {
        Value::Object(self.0.clone())
    }
}
