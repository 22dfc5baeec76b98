//! What a running worker knows about itself, for remote control, events and health.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use chrono::{DateTime, Utc};

use super::lock::lock;
use super::revoked::Revoked;
use crate::events::LogicalClock;
use crate::message::{EncodedBody, Headers, Properties};

/// The requests that a worker holds, by the number of their delivery.
pub(crate) type Requests = HashMap<u64, Known, BuildHasherDefault<SerialHasher>>;

/// Hashes numbers that count up: each goes to a place of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SerialHasher(u64);

impl Hasher for SerialHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio of 64 bits, which spreads neighbours over the upper bits too.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

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

/// A request that the worker holds.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Its message's headers.
    pub(crate) headers: Arc<Headers>,
    /// Its message's properties.
    pub(crate) properties: Arc<Properties>,
    /// Its message's body, still encoded.
    pub(crate) body: Arc<EncodedBody>,
    /// How far it is.
    pub(crate) stage: Stage,
    /// Whether its message is acknowledged.
    pub(crate) acknowledged: bool,
    /// Ends the run of this request.
    pub(crate) terminate: tokio_util::sync::CancellationToken,
    /// The signal with which it was terminated.
    pub(crate) signum: Option<i32>,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stage {
    /// Waits for its eta.
    Scheduled(DateTime<Utc>),
    /// Waits for a slot or for its rate limit.
    Reserved,
    /// Runs since.
    Active(DateTime<Utc>),
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
