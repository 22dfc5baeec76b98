//! What a running worker knows about itself, for remote control, events and health.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use super::lock::lock;
use super::requests::{Requests, Stage};
use super::revoked::Revoked;
use crate::events::LogicalClock;

/// State that all parts of a worker share.
pub(crate) struct WorkerState {
    /// Node name, `celery@host`.
    pub(crate) hostname: String,
    /// Process id.
    pub(crate) pid: u32,
    /// When the worker was started.
    pub(crate) started: Instant,
    /// Logical clock.
    pub(crate) clock: LogicalClock,
    /// Ids and stamps that are not to be run.
    pub(crate) revoked: Mutex<Revoked>,
    requests: Mutex<Requests>,
    /// Only a task's first run writes here.
    total: RwLock<BTreeMap<Arc<str>, AtomicU64>>,
    processed: AtomicU64,
}

impl WorkerState {
    /// The state of a worker of that name that starts now.
    pub(crate) fn new(hostname: String) -> Self {
        Self {
            hostname,
            pid: std::process::id(),
            started: Instant::now(),
            clock: LogicalClock::default(),
            revoked: Mutex::default(),
            requests: Mutex::default(),
            total: RwLock::default(),
            processed: AtomicU64::new(0),
        }
    }

    /// All requests that the worker holds, by the number of their delivery.
    pub(crate) fn requests(&self) -> MutexGuard<'_, Requests> {
        lock(&self.requests)
    }

    /// How many requests run or would run if there was a slot: not those that wait for their eta.
    pub(crate) fn pressing(&self) -> usize {
        self.requests().values().filter(|known| !matches!(known.stage, Stage::Scheduled(_))).count()
    }

    /// How many tasks were accepted since the start.
    pub(crate) fn processed(&self) -> u64 {
        self.processed.load(Ordering::Relaxed)
    }

    /// How many tasks were accepted since the start, by name.
    pub(crate) fn total(&self) -> BTreeMap<Arc<str>, u64> {
        let total = self.total.read().unwrap_or_else(PoisonError::into_inner);
        total.iter().map(|(task, count)| (Arc::clone(task), count.load(Ordering::Relaxed))).collect()
    }

    /// Counts an accepted task.
    pub(crate) fn count(&self, task: &Arc<str>) {
        self.processed.fetch_add(1, Ordering::Relaxed);
        if let Some(count) = self.total.read().unwrap_or_else(PoisonError::into_inner).get(task) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut total = self.total.write().unwrap_or_else(PoisonError::into_inner);
        total.entry(Arc::clone(task)).or_default().fetch_add(1, Ordering::Relaxed);
    }
}
