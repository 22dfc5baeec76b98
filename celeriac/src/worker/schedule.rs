//! The tasks that wait for their eta in this worker's memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::job::Job;
use super::runtime::Runtime;
use crate::failpoints::fail_point;
use crate::node::{Stage, lock};

/// How far away an eta must be for its message to be parked at the broker: a nearer one is not worth the round trips.
const PARKED_AHEAD: TimeDelta = TimeDelta::seconds(2);
/// How many times as many tasks as usual may wait here if they are due that soon.
const NEAR: usize = 10;
/// The longest sleep of a timer.
const STEP: Duration = Duration::from_secs(30 * 86_400);

/// Jobs by the time at which they are due, on the monotonic clock.
#[derive(Default)]
pub(crate) struct Schedule {
    jobs: Mutex<BTreeMap<(Instant, u64), Box<Job>>>,
    sooner: Notify,
}

impl Schedule {
    /// How many tasks wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.jobs).len()
    }

    /// Lets a job wait for its eta.
    fn add(&self, job: Box<Job>, eta: DateTime<Utc>) {
        let wait = (eta - job.runtime.app.clock().now()).to_std().unwrap_or(Duration::ZERO);
        let now = Instant::now();
        // An eta beyond the clock's range is looked at again in a month, like every one that far away.
        let due = now.checked_add(wait).unwrap_or(now + STEP);
        let mut jobs = lock(&self.jobs);
        let is_first = jobs.first_key_value().is_none_or(|((first, _), _)| due < *first);
        jobs.insert((due, job.serial), job);
        drop(jobs);
        if is_first {
            self.sooner.notify_one();
        }
    }

    /// All jobs that wait, on shutdown.
    pub(crate) fn drain(&self) -> Vec<Job> {
        std::mem::take(&mut *lock(&self.jobs)).into_values().map(|job| *job).collect()
    }

    /// The next job if it is due, or how long to wait for it.
    fn next(&self) -> Result<Box<Job>, Duration> {
        let mut jobs = lock(&self.jobs);
        let now = Instant::now();
        match jobs.first_entry() {
            Some(first) if first.key().0 <= now => Ok(first.remove()),
            Some(first) => Err((first.key().0 - now).min(STEP)),
            None => Err(STEP),
        }
    }

    /// Hands on what is due until the worker stops.
    pub(crate) async fn run(runtime: Arc<Runtime>) {
        while !runtime.life.stopping.is_cancelled() {
            match runtime.schedule.next() {
                Ok(job) => {
                    fail_point!("eta.due");
                    runtime.state.requests().update(job.serial, |known| known.stage = Stage::Reserved);
                    runtime.reserve(job);
                }
                Err(wait) => tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = runtime.schedule.sooner.notified() => {}
                    () = runtime.life.stopping.cancelled() => return,
                },
            }
        }
    }
}

impl Runtime {
    /// Lets a job wait here for its eta.
    pub(crate) fn schedule(&self, job: Box<Job>, eta: DateTime<Utc>) {
        self.state.requests().update(job.serial, |known| known.stage = Stage::Scheduled(eta));
        self.hold(job.serial);
        fail_point!("eta.held");
        self.schedule.add(job, eta);
        if self.life.stopping.is_cancelled() {
            self.schedule.drain().into_iter().for_each(|job| self.slots.submit(Box::new(job)));
        }
    }

    /// Whether a message with that eta is to wait at the broker, since enough wait here.
    pub(crate) fn parks(&self, eta: DateTime<Utc>) -> bool {
        let most = self.config().celeriac_max_scheduled as usize;
        most > 0 && self.schedule.len() >= most && eta - self.app.clock().now() > PARKED_AHEAD
    }

    /// By how much the tasks that wait for their eta widen the prefetch window of `limit` messages: each by one
    /// (celery 5.7 `celery/worker/consumer/tasks.py`), as far as the limits on them allow.
    pub(crate) fn window(&self, limit: usize) -> usize {
        let config = self.config();
        let most = match config.celeriac_max_scheduled as usize {
            0 => usize::MAX,
            most => most.saturating_mul(NEAR),
        };
        let widest = match config.worker_eta_task_limit {
            None | Some(0) => usize::MAX,
            Some(most) => limit.max(most as usize),
        };
        limit.saturating_add(self.schedule.len().min(most)).min(widest)
    }
}
