//! The shapes of replies, for the worker that writes them and the client that reads them.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::message::{Map, Value};

/// A request that a worker holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskInfo {
    /// Task id.
    pub id: String,
    /// Name of the task.
    pub name: String,
    /// Positional arguments: a list, or its Python `repr` when asked for safely.
    pub args: Value,
    /// Keyword arguments: a mapping, or its Python `repr` when asked for safely.
    pub kwargs: Value,
    /// Name of the task, whatever it is shown as.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Node name of the worker.
    pub hostname: Option<String>,
    /// When it was started: Unix time in seconds.
    pub time_start: Option<f64>,
    /// Whether its message is acknowledged.
    pub acknowledged: bool,
    /// Where its message came from.
    pub delivery_info: DeliveryInfo,
    /// Process that runs it.
    pub worker_pid: Option<i64>,
}

/// Where a message came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeliveryInfo {
    /// Exchange to which it was published.
    pub exchange: Option<String>,
    /// Routing key with which it was published.
    pub routing_key: Option<String>,
    /// Its priority.
    pub priority: Option<i64>,
    /// Whether it was delivered before.
    pub redelivered: Option<bool>,
}

/// A request that waits for its eta.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScheduledTask {
    /// When it is due: ISO 8601.
    pub eta: Option<String>,
    /// Priority among the timers, always 6.
    pub priority: i64,
    /// The request.
    pub request: TaskInfo,
}

/// The answer to a question for a task: its state in the worker (`active`, `reserved`, `scheduled`, `ready`) and the
/// request.
pub type StoredTask = (String, TaskInfo);

/// A queue that a worker consumes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct QueueInfo {
    /// Name of the queue.
    pub name: String,
    /// Exchange that it is bound to.
    pub exchange: ExchangeInfo,
    /// Routing key of the binding.
    pub routing_key: String,
    /// Arguments of the declaration.
    pub queue_arguments: Option<Map>,
    /// Arguments of the binding.
    pub binding_arguments: Option<Map>,
    /// Arguments of consuming.
    pub consumer_arguments: Option<Map>,
    /// Whether it outlives the broker's restart.
    pub durable: bool,
    /// Whether it belongs to one connection.
    pub exclusive: bool,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// Whether messages need no acknowledgement.
    pub no_ack: bool,
    /// Another name for it.
    pub alias: Option<String>,
    /// Further bindings.
    pub bindings: Vec<Value>,
    /// Whether it is not declared.
    pub no_declare: Option<bool>,
    /// Seconds after which it is deleted when unused.
    pub expires: Option<f64>,
    /// Seconds after which its messages are dropped.
    pub message_ttl: Option<f64>,
    /// Most messages that it holds.
    pub max_length: Option<i64>,
    /// Most bytes that it holds.
    pub max_length_bytes: Option<i64>,
    /// Highest priority.
    pub max_priority: Option<i64>,
}

impl QueueInfo {
    /// A durable queue bound to an exchange of that type.
    pub fn bound(name: &str, exchange: &str, exchange_type: &str, routing_key: &str) -> Self {
        let exchange = ExchangeInfo {
            name: exchange.to_owned(),
            exchange_type: exchange_type.to_owned(),
            durable: true,
            ..ExchangeInfo::default()
        };
        let (name, routing_key) = (name.to_owned(), routing_key.to_owned());
        Self { name, exchange, routing_key, durable: true, ..Self::default() }
    }

    /// A durable queue bound to a direct exchange of its name, as Celery makes those that are only named.
    pub fn named(name: &str) -> Self {
        Self::bound(name, name, "direct", name)
    }
}

/// An exchange.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ExchangeInfo {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub exchange_type: String,
    /// Arguments of the declaration.
    pub arguments: Option<Map>,
    /// Whether it outlives the broker's restart.
    pub durable: bool,
    /// Whether it is only looked up.
    pub passive: bool,
    /// Whether it goes with its last queue.
    pub auto_delete: bool,
    /// Mode of messages that have none.
    pub delivery_mode: Option<i64>,
    /// Whether it is not declared.
    pub no_declare: bool,
}

/// How a worker is doing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct WorkerStats {
    /// How many tasks were accepted since the start, by name.
    pub total: IndexMap<String, u64>,
    /// Process id.
    pub pid: u32,
    /// Logical clock, as text.
    pub clock: String,
    /// Seconds since the start.
    pub uptime: f64,
    /// What runs the tasks.
    pub pool: Map,
    /// The autoscaler, if there is one.
    pub autoscaler: Option<AutoscalerInfo>,
    /// Where the worker is connected to.
    pub broker: Map,
    /// How many messages the worker may hold; 0 is without limit.
    pub prefetch_count: Value,
    /// Resources that the process used.
    pub rusage: Value,
}

/// The autoscaler of a worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AutoscalerInfo {
    /// Most tasks at a time.
    pub max: usize,
    /// Fewest slots.
    pub min: usize,
    /// Slots that there are.
    pub current: usize,
    /// Requests that the worker holds.
    pub qty: usize,
}
