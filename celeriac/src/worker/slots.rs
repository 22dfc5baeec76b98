//! The slots in which tasks run, and the queue before them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio_util::task::TaskTracker;

use super::request::Job;
use super::state::lock;

/// Runs at most `limit` jobs at a time; the others wait in the order in which they came.
pub(crate) struct Slots {
    inner: Mutex<Inner>,
    runners: TaskTracker,
    handle: tokio::runtime::Handle,
}

struct Inner {
    limit: usize,
    running: usize,
    waiting: VecDeque<Box<Job>>,
    closed: bool,
}

impl Slots {
    /// Slots in the present runtime.
    pub(crate) fn new(limit: usize) -> Self {
        let inner = Inner { limit, running: 0, waiting: VecDeque::new(), closed: false };
        Self {
            inner: Mutex::new(inner),
            runners: TaskTracker::new(),
            handle: tokio::runtime::Handle::current(),
        }
    }

    /// How many jobs may run at a time.
    pub(crate) fn limit(&self) -> usize {
        lock(&self.inner).limit
    }

    /// Starts a job if there is a free slot and nothing waits for one; else gives it back.
    pub(crate) fn start_now(self: &Arc<Self>, job: Box<Job>) -> Result<(), Box<Job>> {
        let mut inner = lock(&self.inner);
        if inner.running >= inner.limit || inner.closed || !inner.waiting.is_empty() {
            return Err(job);
        }
        inner.running += 1;
        drop(inner);
        self.start(job);
        Ok(())
    }

    /// Starts a job, lets it wait for a slot, or hands its message back when nothing starts any more.
    pub(crate) fn submit(self: &Arc<Self>, job: Box<Job>) {
        let mut inner = lock(&self.inner);
        if inner.closed {
            drop(inner);
            job.hand_back();
        } else if inner.running < inner.limit {
            inner.running += 1;
            drop(inner);
            self.start(job);
        } else {
            inner.waiting.push_back(job);
        }
    }

    /// Changes how many jobs may run at a time.
    pub(crate) fn resize(self: &Arc<Self>, limit: usize) {
        let mut ready = Vec::new();
        {
            let mut inner = lock(&self.inner);
            inner.limit = limit;
            while inner.running < limit && !inner.closed {
                let Some(job) = inner.waiting.pop_front() else { break };
                inner.running += 1;
                ready.push(job);
            }
        }
        ready.into_iter().for_each(|job| self.start(job));
    }

    /// Lets nothing start any more and returns what waited.
    pub(crate) fn close(&self) -> VecDeque<Box<Job>> {
        self.runners.close();
        let mut inner = lock(&self.inner);
        inner.closed = true;
        std::mem::take(&mut inner.waiting)
    }

    /// Returns when nothing runs any more; to be called after [`Slots::close`].
    pub(crate) async fn idle(&self) {
        self.runners.wait().await;
    }

    fn start(self: &Arc<Self>, first: Box<Job>) {
        let slots = Arc::clone(self);
        let run = async move {
            let mut job = Some(first);
            while let Some(current) = job {
                current.run().await;
                job = slots.next();
            }
        };
        self.runners.spawn_on(run, &self.handle);
    }

    /// The next job for a slot that became free; `None` gives the slot back.
    fn next(&self) -> Option<Box<Job>> {
        let mut inner = lock(&self.inner);
        let job =
            if inner.running <= inner.limit && !inner.closed { inner.waiting.pop_front() } else { None };
        if job.is_none() {
            inner.running -= 1;
        }
        job
    }
}
