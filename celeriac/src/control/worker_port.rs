//! What remote control may ask of a worker.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::info::{AutoscalerInfo, QueueInfo};
use crate::broker::refusals::Refusal;
use crate::config::{Config, RateLimit};
use crate::message::{Codecs, Signature, TimeLimit};
use crate::node::WorkerState;
use crate::task::TaskDefinition;

/// The operations of a worker on which its commands are built. Internal: the worker is its only implementation.
///
/// The methods are called on remote control's own thread, outside of the runtime in which the worker lives. They
/// return at once; what takes longer they leave to the worker.
pub(crate) trait WorkerPort: Send + Sync + 'static {
    /// The settings.
    fn config(&self) -> &Config;

    /// How messages are written and read.
    fn codecs(&self) -> &Codecs;

    /// What the worker knows about itself.
    fn state(&self) -> &Arc<WorkerState>;

    /// The registered tasks, with the limits that hold now.
    fn tasks(&self) -> Vec<Arc<TaskDefinition>>;

    /// The queues that are consumed.
    fn queues(&self) -> Vec<QueueInfo>;

    /// How many messages the worker may hold; 0 is without limit.
    fn prefetch_count(&self) -> usize;

    /// What runs the tasks.
    fn pool(&self) -> PoolInfo;

    /// Sets how many tasks may run at a time.
    fn resize_pool(&self, slots: usize);

    /// Replaces what runs the tasks; those that run are finished.
    fn restart_pool(&self);

    /// The autoscaler, if there is one.
    fn autoscaler(&self) -> Option<AutoscalerInfo>;

    /// Changes the autoscaler's bounds, those that are given, and returns both (maximum first); `None` without one.
    fn set_autoscale(&self, max: Option<usize>, min: Option<usize>) -> Option<(usize, usize)>;

    /// Sets or removes the rate limit of a task that is registered; `text` is the limit as it is to be shown.
    fn set_rate_limit(&self, task: &str, limit: Option<RateLimit>, text: &str);

    /// Sets the time limits of a task that is registered.
    fn set_time_limits(&self, task: &str, limits: TimeLimit);

    /// Begins to consume a queue, which is declared (bound to its exchange) first.
    fn add_queue(&self, queue: QueueInfo);

    /// Stops consuming a queue; one that is not consumed is no error.
    fn cancel_queue(&self, queue: &str);

    /// Ends the run of a request, or keeps it from running; a request of that serial may be gone already.
    fn terminate(&self, serial: u64, signum: i32);

    /// Stores REVOKED for those of the tasks that no worker has started and that are not done.
    fn store_revoked(&self, ids: Vec<String>) -> BoxFuture<'static, ()>;

    /// Sends a task; what goes wrong is logged.
    fn apply(&self, signature: Signature);

    /// Begins a warm shutdown.
    fn shut_down(&self);

    /// What it has counted, in Prometheus' text format.
    fn counters(&self) -> String;

    /// What the broker refuses now.
    fn refusals(&self) -> Vec<Refusal>;

    /// How it is doing.
    fn condition(&self) -> Condition;
}

/// How a worker is doing, for its probes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condition {
    /// Whether it has begun to consume.
    pub(crate) consumes: bool,
    /// Whether it is shutting down.
    pub(crate) is_draining: bool,
    /// Returns whether it wants more messages.
    pub(crate) has_room: bool,
    /// How many more tasks it could run.
    pub(crate) free_slots: usize,
    /// How many of its requests wait for a slot.
    pub(crate) waiting: usize,
    /// How many messages came since the start.
    pub(crate) received: u64,
    /// How many tasks were started.
    pub(crate) started: u64,
    /// Time since the consumer's last turn.
    pub(crate) consumer_age: Duration,
    /// Time since the worker's runtime last gave a turn to a task that was due.
    pub(crate) runtime_age: Duration,
    /// Why no task can begin on this host; `None` while they can.
    pub(crate) shortage: Option<String>,
    /// What the servers do not accept of what tasks come to, in words.
    pub(crate) troubles: Vec<String>,
}

/// What runs the tasks of a worker, for `stats`.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolInfo {
    /// Name of the implementation.
    pub(crate) implementation: String,
    /// How many tasks may run at a time.
    pub(crate) max_concurrency: usize,
    /// Ids of the processes that run tasks.
    pub(crate) processes: Vec<u32>,
    /// Tasks after which a process is replaced.
    pub(crate) max_tasks_per_child: Option<u32>,
    /// Soft and hard limit in seconds of tasks that have none of their own; 0 for none.
    pub(crate) timeouts: [f64; 2],
}
