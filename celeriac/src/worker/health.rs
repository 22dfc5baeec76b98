//! Signs of life that the parts of a worker leave behind, for its probes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::broker::refusals::{Refusal, Refusals};

/// How often the runtime shows that it runs.
const BEAT: Duration = Duration::from_millis(500);

/// When each part was last seen at work.
pub(crate) struct Health {
    pub(super) refusals: Arc<Refusals>,
    started: Instant,
    consumes: AtomicBool,
    /// Whether the consumer has made its first turn.
    has_turned: AtomicBool,
    received: AtomicU64,
    /// Milliseconds since the start.
    runtime: AtomicU64,
    /// Milliseconds since the start.
    consumer: AtomicU64,
}

impl Health {
    /// The health of a worker that starts now, to which that is refused.
    pub(crate) fn new(refusals: Arc<Refusals>) -> Self {
        Self {
            refusals,
            started: Instant::now(),
            consumes: AtomicBool::new(false),
            has_turned: AtomicBool::new(false),
            received: AtomicU64::new(0),
            runtime: AtomicU64::new(0),
            consumer: AtomicU64::new(0),
        }
    }

    /// Returns what the broker refuses now.
    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        self.refusals.all()
    }

    /// The worker begins to consume.
    pub(crate) fn consumes_now(&self) {
        self.consumer.store(self.now(), Ordering::Relaxed);
        self.consumes.store(true, Ordering::Relaxed);
    }

    /// Whether the worker has begun to consume.
    pub(crate) fn consumes(&self) -> bool {
        self.consumes.load(Ordering::Relaxed)
    }

    /// The consumer's loop makes a turn, connected to the broker; idle, it makes one a second. `true` at the first.
    pub(crate) fn consumer_turned(&self) -> bool {
        self.consumer.store(self.now(), Ordering::Relaxed);
        !self.has_turned.load(Ordering::Relaxed) && !self.has_turned.swap(true, Ordering::Relaxed)
    }

    /// The time since the consumer's last turn.
    pub(crate) fn consumer_age(&self) -> Duration {
        self.age(&self.consumer)
    }

    /// A message came.
    pub(crate) fn received_one(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// How many messages came.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The time since the worker's runtime last gave a turn to a task that was due.
    pub(crate) fn runtime_age(&self) -> Duration {
        self.age(&self.runtime)
    }

    /// Shows that the runtime runs, for as long as it does.
    pub(crate) async fn beat(self: Arc<Self>, stop: CancellationToken) {
        loop {
            self.runtime.store(self.now(), Ordering::Relaxed);
            tokio::select! {
                () = tokio::time::sleep(BEAT) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn age(&self, seen: &AtomicU64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(seen.load(Ordering::Relaxed)))
    }
}
