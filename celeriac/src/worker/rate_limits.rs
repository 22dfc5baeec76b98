//! Rate limits: how often a task may start on this worker.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::job::Job;
use super::runtime::Runtime;
use crate::node::lock;

/// A token bucket for each limited task, and the jobs that wait for a token.
#[derive(Default)]
pub(crate) struct RateLimits {
    buckets: Mutex<HashMap<Arc<str>, Bucket>>,
    /// Wakes whoever sleeps until a token is there, since that time has changed.
    changed: Notify,
}

/// The longest time between two starts; a limit below one in that time counts as that.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

struct Bucket {
    /// Time between two starts.
    interval: Duration,
    next: Instant,
    waiting: VecDeque<Box<Job>>,
    is_served: bool,
}

impl RateLimits {
    /// Sets the limit of a task in starts per second, which holds at once for what waits too; 0 removes it, and returns
    /// what waited.
    pub(crate) fn set(&self, task: &Arc<str>, per_second: f64) -> VecDeque<Box<Job>> {
        let mut buckets = lock(&self.buckets);
        self.changed.notify_waiters();
        if per_second <= 0.0 {
            return buckets.remove(task).map_or_else(VecDeque::new, |bucket| bucket.waiting);
        }
        let interval =
            Duration::try_from_secs_f64(1.0 / per_second).map_or(LONGEST, |time| time.min(LONGEST));
        let bucket = buckets.entry(Arc::clone(task)).or_insert_with(|| Bucket {
            interval,
            next: Instant::now(),
            waiting: VecDeque::new(),
            is_served: false,
        });
        bucket.interval = interval;
        bucket.next = bucket.next.min(Instant::now() + interval);
        VecDeque::new()
    }

    /// Whether a task is limited.
    pub(crate) fn limits(&self, task: &str) -> bool {
        let buckets = lock(&self.buckets);
        !buckets.is_empty() && buckets.contains_key(task)
    }

    /// The job, if it may start now; else it is kept and started when its limit allows.
    pub(crate) fn admit(&self, runtime: &Arc<Runtime>, job: Box<Job>) -> Option<Box<Job>> {
        let mut buckets = lock(&self.buckets);
        if buckets.is_empty() {
            return Some(job);
        }
        let name = Arc::clone(&job.definition.name);
        let Some(bucket) = buckets.get_mut(&name) else { return Some(job) };
        let now = Instant::now();
        if bucket.waiting.is_empty() && bucket.next <= now {
            bucket.next = now + bucket.interval;
            return Some(job);
        }
        bucket.waiting.push_back(job);
        if !bucket.is_served {
            bucket.is_served = true;
            let owner = Arc::clone(runtime);
            runtime.life.background.spawn(async move { serve(owner, name).await });
        }
        None
    }

    /// The jobs that wait, on shutdown.
    pub(crate) fn drain(&self) -> VecDeque<Box<Job>> {
        lock(&self.buckets).values_mut().flat_map(|bucket| bucket.waiting.drain(..)).collect()
    }

    /// The next job of a task, or when to ask again; `None` when none waits.
    fn next(&self, task: &str) -> Option<Result<Box<Job>, Instant>> {
        let mut buckets = lock(&self.buckets);
        let bucket = buckets.get_mut(task)?;
        let now = Instant::now();
        if bucket.next > now {
            return Some(Err(bucket.next));
        }
        let job = bucket.waiting.pop_front();
        match job {
            Some(job) => {
                bucket.next = now + bucket.interval;
                Some(Ok(job))
            }
            None => {
                bucket.is_served = false;
                None
            }
        }
    }
}

async fn serve(runtime: Arc<Runtime>, task: Arc<str>) {
    loop {
        // Hears of each change from before the time is read.
        let changed = runtime.rate_limits.changed.notified();
        let Some(next) = runtime.rate_limits.next(&task) else { return };
        match next {
            Ok(job) => runtime.slots.submit(job),
            Err(time) => tokio::select! {
                () = tokio::time::sleep_until(time) => {}
                () = changed => {}
                () = runtime.life.stopping.cancelled() => return,
            },
        }
    }
}
