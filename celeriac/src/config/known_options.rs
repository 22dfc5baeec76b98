//! The options of transports that are known: their values, and where they have an effect.

use std::time::Duration;

use serde_json::Value;

use super::credentials::CredentialCommand;
use super::describe::cell;
use super::transport_options::QueueOrder;
use super::value::SettingValue;

/// One option that is known.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) effect: Effect,
    pub(super) doc: &'static str,
}

/// Where an option has an effect.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Effect {
    Everywhere,
    Broker,
    Results,
    Nowhere,
}

/// The values that an option can have.
#[derive(Clone, Copy)]
pub(super) enum Kind {
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
pub(super) const OPTIONS: &[Known] = &[
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

/// Returns the option of that name.
pub(super) fn known(name: &str) -> Option<&'static Known> {
    OPTIONS.iter().find(|known| known.name == name)
}

impl Kind {
    pub(super) fn expected(self) -> String {
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

    pub(super) fn takes(self, value: &Value) -> bool {
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
pub(super) fn keepalive_option(name: &str, value: &Value) -> Option<(u8, u32)> {
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
