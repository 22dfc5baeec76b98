//! `broker_transport_options` and `result_backend_transport_options`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::credentials::CredentialCommand;
use super::known_options::Effect::{Broker, Nowhere, Results};
use super::known_options::{OPTIONS, keepalive_option, known};
use super::nearest::nearest;
use super::value::SettingValue;

/// Options of a transport under kombu's names. Unknown ones are kept, and named by [`Config::remarks`](super::Config::remarks).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransportOptions(pub Map<String, Value>);

/// In which order queues of equal priority are consumed; source: kombu 5.7 `kombu/utils/scheduling.py`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueOrder {
    /// One message from each queue in turn.
    #[default]
    RoundRobin,
    /// The queues by name: the next one when the one before it is empty.
    Sorted,
    /// The queues as they were named: the next one when the one before it is empty.
    Priority,
}

impl QueueOrder {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name.trim_start_matches("kombu.utils.scheduling:").trim_end_matches("_cycle") {
            "round_robin" => Some(Self::RoundRobin),
            "sorted" => Some(Self::Sorted),
            "priority" => Some(Self::Priority),
            _ => None,
        }
    }
}

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

    /// An option in seconds for which 0 means the same as nothing.
    pub(crate) fn seconds_above_zero(&self, name: &str) -> Option<Duration> {
        self.seconds(name).filter(|time| !time.is_zero())
    }

    /// A whole number such as `min_other_sentinels`.
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
        self.seconds_above_zero("visibility_timeout").unwrap_or(Duration::from_secs(3600))
    }

    /// Priorities that have a list of their own on Redis; 0, 3, 6 and 9 by default.
    pub fn priority_steps(&self) -> Vec<u8> {
        let steps = self.get("priority_steps").and_then(|value| Vec::<u8>::from_json(value).ok());
        steps.filter(|steps| !steps.is_empty()).unwrap_or_else(|| vec![0, 3, 6, 9])
    }

    /// In which order queues of equal priority are consumed; in turn by default.
    pub fn queue_order(&self) -> QueueOrder {
        self.text("queue_order_strategy").and_then(QueueOrder::named).unwrap_or_default()
    }

    /// The command that yields the credentials of the server, if there is one.
    pub fn credential_provider(&self) -> Option<CredentialCommand> {
        self.get("credential_provider").and_then(|value| CredentialCommand::from_json(value).ok())
    }

    /// The options of `socket_keepalive_options`, by their number on Linux.
    pub(crate) fn keepalive_options(&self) -> Vec<(u8, u32)> {
        let options = self.get("socket_keepalive_options").and_then(Value::as_object);
        options.into_iter().flatten().filter_map(|(name, value)| keepalive_option(name, value)).collect()
    }

    /// One sentence for each option that is unknown or has no effect; `setting` is the one that holds the options.
    pub(super) fn remarks(&self, setting: &str) -> Vec<String> {
        let unused = if setting == "broker_transport_options" { Results } else { Broker };
        let remark = |name: &String| match known(name) {
            None => {
                let near = nearest(name, OPTIONS.iter().map(|known| known.name));
                let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
                Some(format!("{setting}: the option {name} is not known and has no effect{hint}"))
            }
            Some(known) if known.effect == Nowhere => Some(format!(
                "{setting}: the option {name} has no effect: {}",
                known.doc.trim_end_matches('.')
            )),
            Some(known) if known.effect == unused => {
                Some(format!("{setting}: the option {name} has no effect there"))
            }
            Some(_) => None,
        };
        self.0.iter().filter(|(_, value)| !value.is_null()).filter_map(|(name, _)| remark(name)).collect()
    }
}

impl SettingValue for TransportOptions {
    fn expected() -> String {
        "a mapping of transport options, as JSON: {\"visibility_timeout\": 3600}".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        let options = value.as_object().ok_or_else(Self::expected)?;
        for (name, value) in options.iter().filter(|(_, value)| !value.is_null()) {
            if let Some(known) = known(name).filter(|known| !known.kind.takes(value)) {
                return Err(format!("another value of `{name}` in it: {}", known.kind.expected()));
            }
        }
        Ok(Self(options.clone()))
    }

    fn to_json(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(value: Value) -> TransportOptions {
        TransportOptions::from_json(&value).unwrap()
    }

    #[test]
    fn what_has_no_effect_is_said_of_each_option() {
        let given = options(json!({
            "visibility_timeout": 60, "max_connections": 20, "visibilty_timeout": 5, "client_name": null,
            "result_chord_ordered": true,
        }));
        assert_eq!(
            given.remarks("broker_transport_options"),
            [
                "broker_transport_options: the option max_connections has no effect: one connection carries the \
                 commands of all threads",
                "broker_transport_options: the option visibilty_timeout is not known and has no effect; did you mean \
                 visibility_timeout?",
                "broker_transport_options: the option result_chord_ordered has no effect there",
            ]
        );
    }

    #[test]
    fn values_that_an_option_cannot_have_are_refused_by_name() {
        for (name, value) in [
            ("visibility_timeout", json!(0)),
            ("visibility_timeout", json!(1e19)),
            ("queue_order_strategy", json!("proj.cycles:mine")),
            ("socket_keepalive_options", json!({"TCP_KEEPIDLE": 0})),
            ("socket_keepalive_options", json!({"TCP_KEEPIDLES": 5})),
            ("credential_provider", json!([])),
            ("min_other_sentinels", json!(-1)),
        ] {
            let problem = TransportOptions::from_json(&json!({name: value})).unwrap_err();
            assert!(problem.contains(name), "{problem}");
        }
    }

    #[test]
    fn options_are_read_as_kombu_writes_them() {
        let order = |name: &str| options(json!({"queue_order_strategy": name})).queue_order();
        assert_eq!(order("sorted"), QueueOrder::Sorted);
        assert_eq!(order("kombu.utils.scheduling:priority_cycle"), QueueOrder::Priority);
        assert_eq!(options(json!({})).queue_order(), QueueOrder::RoundRobin);
        let keepalive = options(json!({"socket_keepalive_options": {"4": 60, "TCP_KEEPCNT": 9}}));
        assert_eq!(keepalive.keepalive_options(), [(4, 60), (6, 9)]);
        let command = options(json!({"credential_provider": "cat /run/secret"})).credential_provider();
        assert_eq!(command.unwrap().words(), ["sh", "-c", "cat /run/secret"]);
    }
}
