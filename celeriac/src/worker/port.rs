//! What remote control may do to the worker.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::runtime::Runtime;
use crate::backend::{Backend, BackendError, ExceptionInfo, TaskMeta, TaskState};
use crate::broker::Batch;
use crate::broker::refusals::Refusal;
use crate::config::{Config, RateLimit};
use crate::control::{AutoscalerInfo, Condition, PoolInfo, QueueInfo, WorkerPort};
use crate::message::{Codecs, Signature, TimeLimit};
use crate::node::{WorkerState, lock};
use crate::task::TaskDefinition;

/// How many revocations are stored in a round trip.
const REVOKED_AT_A_TIME: usize = 500;

/// A worker as remote control sees it.
pub(super) struct Port(Arc<Runtime>);

impl Port {
    pub(super) fn new(runtime: &Arc<Runtime>) -> Arc<Self> {
        Arc::new(Self(Arc::clone(runtime)))
    }
}

impl WorkerPort for Port {
    fn config(&self) -> &Config {
        self.0.app.config()
    }

    fn codecs(&self) -> &Codecs {
        self.0.app.codecs()
    }

    fn state(&self) -> &Arc<WorkerState> {
        &self.0.state
    }

    fn tasks(&self) -> Vec<Arc<TaskDefinition>> {
        self.0.registry.values().map(|definition| self.0.with_limits(definition)).collect()
    }

    fn queues(&self) -> Vec<QueueInfo> {
        self.0.consumed()
    }

    fn prefetch_count(&self) -> usize {
        self.0.prefetch_limit().unwrap_or(0)
    }

    fn pool(&self) -> PoolInfo {
        let seconds = |limit: Option<std::time::Duration>| limit.map_or(0.0, |limit| limit.as_secs_f64());
        let config = self.0.app.config();
        PoolInfo {
            implementation: "celeriac.worker:Slots".to_owned(),
            max_concurrency: self.0.slots.limit(),
            processes: match self.0.processes.pids() {
                pids if pids.is_empty() => vec![self.0.state.pid],
                pids => pids,
            },
            max_tasks_per_child: config.worker_max_tasks_per_child,
            timeouts: [seconds(config.task_soft_time_limit), seconds(config.task_time_limit)],
        }
    }

    fn resize_pool(&self, slots: usize) {
        self.0.slots.resize(slots);
        self.0.processes.resize(slots);
        self.0.consumer.wake();
    }

    fn restart_pool(&self) {
        log::info!("Restarting the pool: child processes are replaced, other tasks share the worker's");
        self.0.processes.restart();
    }

    fn autoscaler(&self) -> Option<AutoscalerInfo> {
        let bounds = self.0.autoscale.bounds()?;
        Some(AutoscalerInfo {
            max: bounds.max,
            min: bounds.min,
            current: self.0.slots.limit(),
            qty: self.0.state.pressing(),
        })
    }

    fn set_autoscale(&self, max: Option<usize>, min: Option<usize>) -> Option<(usize, usize)> {
        let bounds = self.0.autoscale.change(max, min)?;
        self.resize_pool(self.0.slots.limit().clamp(bounds.min, bounds.max));
        Some((bounds.max, bounds.min))
    }

    fn set_rate_limit(&self, task: &str, limit: Option<RateLimit>, text: &str) {
        let Some(definition) = self.0.registry.get(task) else { return };
        lock(&self.0.rate_texts).insert(Arc::clone(&definition.name), text.to_owned());
        if self.0.config().worker_disable_rate_limits {
            return;
        }
        for job in self.0.rate_limits.set(&definition.name, limit.map_or(0.0, RateLimit::rate)) {
            self.0.slots.submit(job);
        }
    }

    fn set_time_limits(&self, task: &str, limits: TimeLimit) {
        if let Some(definition) = self.0.registry.get(task) {
            lock(&self.0.time_limits).insert(Arc::clone(&definition.name), limits);
        }
    }

    fn add_queue(&self, queue: QueueInfo) {
        self.0.consume(&queue);
        let runtime = Arc::clone(&self.0);
        self.0.handle.spawn(async move { runtime.bind(&queue).await });
    }

    fn cancel_queue(&self, queue: &str) {
        self.0.cease(queue);
    }

    fn terminate(&self, serial: u64, signum: i32) {
        self.0.state.requests().update(serial, |known| {
            known.signum = Some(signum);
            known.terminate.cancel();
        });
    }

    fn store_revoked(&self, ids: Vec<String>) -> BoxFuture<'static, ()> {
        let Some(backend) = self.0.app.result_backend().cloned() else {
            return std::future::ready(()).boxed();
        };
        let storing = self.0.handle.spawn(async move {
            for ids in ids.chunks(REVOKED_AT_A_TIME) {
                if let Err(error) = store_revoked(&backend, ids).await {
                    log::warn!(task_id = ids[0].as_str(), count = ids.len(), error:% = error; "The revocation of {} task(s), the first {}, could not be stored: {error}", ids.len(), ids[0]);
                }
            }
        });
        async move {
            // The task ends with its loop, or with the worker.
            let _ = storing.await;
        }
        .boxed()
    }

    fn apply(&self, signature: Signature) {
        let app = self.0.app.clone();
        self.0.handle.spawn(async move {
            let name = signature.task.clone();
            if let Err(error) = app.apply(signature).await {
                log::error!(task_name = name.as_str(), error:% = error; "Could not call task {name}: {error}");
            }
        });
    }

    fn shut_down(&self) {
        self.0.life.stopping.cancel();
        self.0.consumer.wake();
    }

    fn counters(&self) -> String {
        self.0.counters.text()
    }

    fn refusals(&self) -> Vec<Refusal> {
        self.0.health.refusals()
    }

    fn condition(&self) -> Condition {
        let (free_slots, waiting) = self.0.slots.load();
        Condition {
            consumes: self.0.health.consumes(),
            is_draining: self.0.life.stopping.is_cancelled(),
            has_room: !self.0.room().is_empty(),
            free_slots,
            waiting,
            received: self.0.health.received(),
            started: self.0.state.processed(),
            consumer_age: self.0.health.consumer_age(),
            runtime_age: self.0.health.runtime_age(),
            shortage: self.0.shortage(),
            troubles: self.0.consumer.troubles().present(),
        }
    }
}

impl Runtime {
    /// The definition with the limits that remote control has set.
    fn with_limits(&self, definition: &Arc<TaskDefinition>) -> Arc<TaskDefinition> {
        let limits = self.time_limits(&definition.name);
        let rate = lock(&self.rate_texts).get(&definition.name).cloned();
        if limits.is_none() && rate.is_none() {
            return Arc::clone(definition);
        }
        let mut current = (**definition).clone();
        if let Some(TimeLimit { hard, soft }) = limits {
            (current.options.time_limit, current.options.soft_time_limit) = (hard, soft);
        }
        current.options.rate_limit = rate.or(current.options.rate_limit);
        Arc::new(current)
    }
}

/// Stores REVOKED for those of the tasks that have not started.
async fn store_revoked(backend: &Backend, ids: &[String]) -> Result<(), BackendError> {
    let mut batch = Batch::Empty;
    for (id, stored) in ids.iter().zip(backend.fetch_many(ids).await?) {
        let is_wanted = match stored {
            Ok(stored) => stored.is_none_or(|meta| is_not_started(&meta.status)),
            Err(error) => {
                log::warn!(task_id = id.as_str(), error:% = error; "The revocation of {id} is not stored: what is stored of it cannot be read: {error}");
                false
            }
        };
        if is_wanted {
            let exception = ExceptionInfo::celery("TaskRevokedError", "revoked");
            let meta = TaskMeta::new(id.clone(), TaskState::Revoked, exception.to_value());
            batch.append(backend.storing_carefully(&meta).await?);
        }
    }
    backend.carry_out_each(batch).await
}

/// Whether no worker has started the task yet: a custom state, such as PROGRESS, was set by one that has.
///
/// Source: celery 5.7 `_revoke` in `celery/worker/control.py`.
fn is_not_started(state: &TaskState) -> bool {
    match state {
        TaskState::Pending | TaskState::Retry => true,
        TaskState::Custom(name) => matches!(name.as_str(), "RECEIVED" | "REJECTED"),
        _ => false,
    }
}
