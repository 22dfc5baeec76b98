//! `task_queues`: the queues that an app declares.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Config;
use super::kinds::ExchangeType;
use super::value::SettingValue;

/// The longest expiry that is asked for, some 317 years, in milliseconds.
const LONGEST_EXPIRY: u64 = 10_000_000_000_000;

/// One declared queue. What is not given comes from the `task_default_*` settings; see [`Config::queue`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueDefinition {
    /// Name of the queue.
    pub name: String,
    /// Exchange that it is bound to; the default exchange if not given.
    pub exchange: Option<String>,
    /// Type of that exchange; direct if not given.
    pub exchange_type: Option<ExchangeType>,
    /// Routing key of the binding; the name of the queue if not given in a mapping, else the default routing key.
    pub routing_key: Option<String>,
    /// Whether it outlives the broker's restart; RabbitMQ only.
    pub durable: Option<bool>,
    /// Whether it goes with its last consumer; RabbitMQ only.
    pub auto_delete: Option<bool>,
    /// Highest priority, `x-max-priority`; RabbitMQ only.
    pub max_priority: Option<u8>,
    /// Arguments of the declaration; on Redis only `x-expires` counts, see [`QueueDefinition::expires`].
    pub queue_arguments: Map<String, Value>,
    /// Seconds after which the messages of the queue are dropped when none is published to it.
    pub expires: Option<f64>,
}

impl QueueDefinition {
    /// A queue of which only the name is given.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    fn read(name: Option<&str>, value: &Value) -> Option<Self> {
        if let Value::String(name) = value {
            return Some(Self::named(name.as_str()));
        }
        let mut queue = Self::named(name.unwrap_or_default());
        queue.routing_key = name.map(str::to_owned);
        for (key, value) in value.as_object()? {
            match key.as_str() {
                "name" => queue.name = value.as_str()?.to_owned(),
                "exchange" => queue.exchange = Option::from_json(value).ok()?,
                "exchange_type" => queue.exchange_type = Option::from_json(value).ok()?,
                "routing_key" | "binding_key" => queue.routing_key = Option::from_json(value).ok()?,
                "durable" => queue.durable = Option::from_json(value).ok()?,
                "auto_delete" => queue.auto_delete = Option::from_json(value).ok()?,
                "max_priority" => queue.max_priority = Option::from_json(value).ok()?,
                "queue_arguments" => queue.queue_arguments = value.as_object()?.clone(),
                "expires" => {
                    queue.expires = Option::<f64>::from_json(value).ok()?.filter(|seconds| *seconds > 0.0)
                }
                _ => return None,
            }
        }
        (!queue.name.is_empty()).then_some(queue)
    }

    /// The time after which the lists of the queue expire: `expires`, else the argument `x-expires`; 0 is none.
    ///
    /// Source: kombu 5.7 `_get_queue_expire` in `kombu/transport/redis.py`, `to_rabbitmq_queue_arguments` in
    /// `kombu/transport/base.py`.
    pub fn expires(&self) -> Option<Duration> {
        let milliseconds = match self.expires {
            Some(seconds) => Some((seconds * 1000.0) as u64),
            None => self
                .queue_arguments
                .get("x-expires")
                .and_then(|value| f64::from_json(value).ok())
                .map(|x| x as u64),
        };
        // Redis takes no longer times.
        milliseconds.filter(|time| *time > 0).map(|time| Duration::from_millis(time.min(LONGEST_EXPIRY)))
    }
}

/// A queue with its binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundQueue {
    /// Name of the queue.
    pub name: String,
    /// Exchange that it is bound to.
    pub exchange: String,
    /// Type of that exchange.
    pub exchange_type: ExchangeType,
    /// Routing key of the binding.
    pub routing_key: String,
}

impl Config {
    /// The queue of that name with what the settings say about it; `None` when it is not declared and
    /// `task_create_missing_queues` is off.
    ///
    /// Source: celery 5.7 `Queues` in `celery/app/amqp.py`.
    pub fn queue(&self, name: &str) -> Option<BoundQueue> {
        let default = BoundQueue {
            name: name.to_owned(),
            exchange: self.task_default_exchange.clone().unwrap_or_else(|| self.task_default_queue.clone()),
            exchange_type: self.task_default_exchange_type,
            routing_key: self
                .task_default_routing_key
                .clone()
                .unwrap_or_else(|| self.task_default_queue.clone()),
        };
        let declared = match &self.task_queues {
            Some(queues) => queues.get(name).cloned(),
            None => (name == self.task_default_queue).then(|| QueueDefinition::named(name)),
        };
        let Some(declared) = declared else {
            return self.task_create_missing_queues.then(|| BoundQueue {
                exchange: name.to_owned(),
                exchange_type: self.task_create_missing_queue_exchange_type.unwrap_or(ExchangeType::Direct),
                routing_key: name.to_owned(),
                ..default
            });
        };
        let routing_key = declared.routing_key.filter(|key| !key.is_empty()).unwrap_or(default.routing_key);
        let (exchange, exchange_type) = match declared.exchange.filter(|name| !name.is_empty()) {
            Some(exchange) => (exchange, declared.exchange_type.unwrap_or(ExchangeType::Direct)),
            None => (default.exchange, default.exchange_type),
        };
        Some(BoundQueue { name: default.name, exchange, exchange_type, routing_key })
    }

    /// The time after which the lists of each declared queue expire, if it has one.
    pub(crate) fn queue_expirations(&self) -> HashMap<String, Duration> {
        let queues = self.task_queues.iter().flat_map(|queues| &queues.0);
        queues.filter_map(|queue| Some((queue.name.clone(), queue.expires()?))).collect()
    }

    /// The queues that the settings declare, and the default one.
    pub(crate) fn bound_queues(&self) -> impl Iterator<Item = BoundQueue> {
        let names = self.task_queues.iter().flat_map(|queues| &queues.0).map(|queue| queue.name.as_str());
        names.chain([self.task_default_queue.as_str()]).filter_map(|name| self.queue(name))
    }

    /// The names of the exchanges that the settings declare as of type fanout.
    pub(crate) fn fanout_exchanges(&self) -> Vec<String> {
        let is_fanout_queue = |queue: &BoundQueue| queue.exchange_type == ExchangeType::Fanout;
        let declared = self.bound_queues().filter(is_fanout_queue).map(|queue| queue.exchange);
        let is_fanout = |route: &&super::Route| {
            route.options.get("exchange_type").and_then(Value::as_str) == Some(ExchangeType::Fanout.as_str())
        };
        let routed = self.task_routes.0.iter().filter(is_fanout).filter_map(|route| route.exchange());
        declared.chain(routed.map(str::to_owned)).collect()
    }
}

/// The declared queues, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queues(pub Vec<QueueDefinition>);

impl Queues {
    /// The queue of that name.
    pub fn get(&self, name: &str) -> Option<&QueueDefinition> {
        self.0.iter().find(|queue| queue.name == name)
    }
}

impl SettingValue for Queues {
    fn expected() -> String {
        "names, comma-separated, or a JSON list or mapping of queues with name, exchange, exchange_type, routing_key, \
         durable, auto_delete, max_priority, expires, queue_arguments"
            .into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        let queues: Option<Vec<_>> = match value {
            Value::Array(items) => items.iter().map(|item| QueueDefinition::read(None, item)).collect(),
            Value::Object(entries) => {
                entries.iter().map(|(name, value)| QueueDefinition::read(Some(name), value)).collect()
            }
            Value::String(text) => Vec::<String>::from_text(text)
                .ok()
                .map(|names| names.into_iter().map(QueueDefinition::named).collect()),
            _ => None,
        };
        queues.map(Self).ok_or_else(Self::expected)
    }

    fn to_json(&self) -> Value {
        let queues = self.0.iter().map(|queue| {
            json!({
                "name": queue.name,
                "exchange": queue.exchange,
                "exchange_type": queue.exchange_type.map(ExchangeType::as_str),
                "routing_key": queue.routing_key,
                "durable": queue.durable,
                "auto_delete": queue.auto_delete,
                "max_priority": queue.max_priority,
                "queue_arguments": queue.queue_arguments,
                "expires": queue.expires,
            })
        });
        queues.map(without_nulls).collect()
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(entries) => entries
            .into_iter()
            .filter(|(_, value)| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()))
            .collect(),
        other => other,
    }
}
