//! `broker_transport_options` and `result_backend_transport_options`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::credentials::CredentialCommand;
use super::describe::cell;
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
    fn named(name: &str) -> Option<Self> {
        match name.trim_start_matches("kombu.utils.scheduling:").trim_end_matches("_cycle") {
            "round_robin" => Some(Self::RoundRobin),
            "sorted" => Some(Self::Sorted),
            "priority" => Some(Self::Priority),
            _ => None,
        }
    }
}

/// One option that is known.
struct Known {
    name: &'static str,
    kind: Kind,
    effect: Effect,
    doc: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Effect {
    Everywhere,
    Broker,
    Results,
    Nowhere,
}

#[derive(Clone, Copy)]
enum Kind {
    /// A time in seconds.
    Seconds,
    /// A time in seconds that cannot be 0.
    SecondsAboveZero,
    Number,
    Flag,
    Text,
    FlagOrText,
    Steps,
    Mapping,
    Keepalive,
    Order,
    Command,
    Anything,
}

use Effect::{Broker, Everywhere, Nowhere, Results};

/// Sources: `kombu/transport/redis.py`, `kombu/transport/virtual/base.py`, `kombu/connection.py`, kombu 5.7;
/// `celery/backends/redis.py`, celery 5.7.
const OPTIONS: &[Known] = &[
    option(
        "visibility_timeout",
        Kind::SecondsAboveZero,
        Broker,
        "Seconds after which an unacknowledged message of a silent worker comes back; 3600 if unset.",
    ),
    option(
        "priority_steps",
        Kind::Steps,
        Broker,
        "Priorities that have a list of their own; 0, 3, 6 and 9 if unset.",
    ),
    option("sep", Kind::Text, Broker, "Separator in the keys of these lists."),
    option(
        "queue_order_strategy",
        Kind::Order,
        Broker,
        "Order of the queues within a priority: `round_robin` takes one message from each in turn, `sorted` empties them by name, `priority` as `-Q` names them.",
    ),
    option("global_keyprefix", Kind::Text, Everywhere, "Prefix of all keys and channels."),
    option("unacked_key", Kind::Text, Broker, "Key of the messages that are delivered and not acknowledged."),
    option("unacked_index_key", Kind::Text, Broker, "Key of the times at which they were delivered."),
    option("unacked_mutex_key", Kind::Text, Broker, "Key of the lock of the sweep that brings them back."),
    option(
        "unacked_restore_interval",
        Kind::Seconds,
        Broker,
        "Seconds between such sweeps; 5 if unset or 0. A longer time than 5 delays only what is recorded in `unacked`.",
    ),
    option(
        "fanout_prefix",
        Kind::FlagOrText,
        Broker,
        "Prefix of the channels of fanout exchanges, `/{db}.` if true or unset.",
    ),
    option(
        "fanout_patterns",
        Kind::Flag,
        Broker,
        "Whether these channels end in the routing key; true if unset.",
    ),
    option("master_name", Kind::Text, Everywhere, "Name of the master at the Sentinels."),
    option(
        "min_other_sentinels",
        Kind::Number,
        Everywhere,
        "Other Sentinels that one must see to be believed.",
    ),
    option(
        "sentinel_kwargs",
        Kind::Mapping,
        Everywhere,
        "Login and TLS of the Sentinels: `username`, `password`, `ssl`, `ssl_*`.",
    ),
    option(
        "sentinel_fanout_compat",
        Kind::Flag,
        Broker,
        "Whether fanout messages also go by the channels of kombu before 5.4.",
    ),
    option(
        "socket_timeout",
        Kind::Seconds,
        Everywhere,
        "Seconds that a server may be silent although it owes a reply; 3 if unset or 0.",
    ),
    option(
        "socket_connect_timeout",
        Kind::Seconds,
        Everywhere,
        "Seconds that connecting may take; as the setting for it if unset or 0.",
    ),
    option(
        "socket_keepalive",
        Kind::Flag,
        Everywhere,
        "Whether TCP keeps idle connections alive; true if unset.",
    ),
    option(
        "socket_keepalive_options",
        Kind::Keepalive,
        Everywhere,
        "How: `TCP_KEEPIDLE` and `TCP_KEEPINTVL` in seconds, `TCP_KEEPCNT`, `TCP_USER_TIMEOUT` in milliseconds, or their numbers on Linux: 4, 5, 6, 18.",
    ),
    option(
        "health_check_interval",
        Kind::Seconds,
        Everywhere,
        "Seconds after which an idle connection is asked for a sign of life; 1 if unset or 0.",
    ),
    option("client_name", Kind::Text, Everywhere, "Name of the connections in `CLIENT LIST`."),
    option(
        "credential_provider",
        Kind::Command,
        Everywhere,
        "Command that is run before each connection, as text for `sh -c` or as a list, and prints the password, or user and password in two lines or as JSON `{\"username\", \"password\"}`. They replace those of the URL.",
    ),
    option(
        "result_chord_ordered",
        Kind::Flag,
        Results,
        "Whether a chord's results come in the order of its header; true if unset.",
    ),
    nothing("max_connections", "one connection carries the commands of all threads."),
    nothing(
        "retry_on_timeout",
        "a worker tries again in any case, and a client as `task_publish_retry_policy` says.",
    ),
    nothing("polling_interval", "nothing is polled: the server announces each message."),
    nothing("ack_emulation", "messages are always acknowledged."),
    nothing("unacked_mutex_expire", "a sweep's lock ends after 15 s."),
    nothing("unacked_restore_limit", "a sweep brings back all there is, in parts."),
    nothing("unacked_restore_throttle", "each sweep looks."),
    nothing("reauth_check_interval", "credentials are asked for anew with each connection."),
    nothing("body_encoding", "bodies are base64."),
    nothing("deadletter_queue", "see `celeriac_dead_letter_queue`."),
    nothing("confirm_publish", "Redis always confirms."),
    nothing("max_retries", "see `broker_connection_max_retries`."),
    nothing("interval_start", "see `task_publish_retry_policy`."),
    nothing("interval_step", "see `task_publish_retry_policy`."),
    nothing("interval_max", "see `task_publish_retry_policy`."),
    nothing("retry_policy", "a worker and a waiting client try for as long as it takes."),
];

const fn option(name: &'static str, kind: Kind, effect: Effect, doc: &'static str) -> Known {
    Known { name, kind, effect, doc }
}

const fn nothing(name: &'static str, doc: &'static str) -> Known {
    Known { name, kind: Kind::Anything, effect: Nowhere, doc }
}

fn known(name: &str) -> Option<&'static Known> {
    OPTIONS.iter().find(|known| known.name == name)
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

impl Kind {
    fn expected(self) -> String {
        match self {
            Kind::Seconds => Duration::expected(),
            Kind::SecondsAboveZero => "a number of seconds above 0".into(),
            Kind::Number => u64::expected(),
            Kind::Flag => bool::expected(),
            Kind::Text => String::expected(),
            Kind::FlagOrText => "true, false or text".into(),
            Kind::Steps => "a list of whole numbers from 0 to 255".into(),
            Kind::Mapping => "a mapping such as {\"password\": \"...\"}".into(),
            Kind::Keepalive => {
                "a mapping such as {\"TCP_KEEPIDLE\": 60}, its values whole numbers above 0".into()
            }
            Kind::Order => "round_robin, sorted or priority".into(),
            Kind::Command => CredentialCommand::expected(),
            Kind::Anything => Value::expected(),
        }
    }

    fn takes(self, value: &Value) -> bool {
        match self {
            Kind::Seconds => Duration::from_json(value).is_ok(),
            Kind::SecondsAboveZero => Duration::from_json(value).is_ok_and(|time| !time.is_zero()),
            Kind::Number => u64::from_json(value).is_ok(),
            Kind::Flag => bool::from_json(value).is_ok(),
            Kind::Text => value.is_string(),
            Kind::FlagOrText => value.is_string() || bool::from_json(value).is_ok(),
            Kind::Steps => {
                value.as_array().is_some_and(|steps| steps.iter().all(|step| u8::from_json(step).is_ok()))
            }
            Kind::Mapping => value.is_object(),
            Kind::Keepalive => value.as_object().is_some_and(|options| {
                options.iter().all(|(name, value)| keepalive_option(name, value).is_some())
            }),
            Kind::Order => value.as_str().and_then(QueueOrder::named).is_some(),
            Kind::Command => CredentialCommand::from_json(value).is_ok(),
            Kind::Anything => true,
        }
    }
}

/// The number on Linux of an option of TCP, and its value.
fn keepalive_option(name: &str, value: &Value) -> Option<(u8, u32)> {
    let number = match name.trim_start_matches("socket.") {
        "TCP_KEEPIDLE" | "4" => 4,
        "TCP_KEEPINTVL" | "5" => 5,
        "TCP_KEEPCNT" | "6" => 6,
        "TCP_USER_TIMEOUT" | "18" => 18,
        _ => return None,
    };
    // The kernel takes no more seconds than this.
    let value = u32::from_json(value).ok().filter(|value| (1..=32_767).contains(value) || number == 18)?;
    Some((number, value))
}

/// The options as the rows of a table in Markdown.
pub(super) fn rows() -> String {
    let row = |known: &Known| {
        let doc = match known.effect {
            Nowhere => format!("Without effect: {}", known.doc),
            Broker => format!("{} For the broker.", known.doc),
            Results => format!("{} For results.", known.doc),
            Everywhere => known.doc.to_owned(),
        };
        format!("| `{}` | {} | {} |\n", known.name, cell(&known.kind.expected()), cell(&doc))
    };
    OPTIONS.iter().map(row).collect()
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
