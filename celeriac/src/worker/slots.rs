//! The slots in which tasks run, and the queue before them.
//!
//! A job is begun by one of a few starters, no more than the runtime has threads. Most tasks are short and end there; one that
//! waits for something is given a task of the runtime of its own, and the starter goes on with the next.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use tokio_util::task::TaskTracker;

use super::job::Job;
use crate::node::lock;

/// How many jobs a starter begins before it lets others have the thread.
const TURN: usize = 32;

/// Runs at most `limit` jobs at a time; the others wait.
pub(crate) struct Slots {
    inner: Mutex<Inner>,
    runners: TaskTracker,
    handle: tokio::runtime::Handle,
    /// Most starters at a time.
    starters: usize,
}

struct Inner {
    limit: usize,
    /// Jobs that have a slot.
    running: usize,
    /// Those among them that have not begun.
    ready: VecDeque<Box<Job>>,
    starters: usize,
    /// By priority step and then by age, as they would wait in their queue.
    waiting: BTreeMap<(u8, u64), Box<Job>>,
    closed: bool,
    /// Whether what waited has been handed back.
    drained: bool,
}

impl Slots {
    /// Slots in the present runtime.
    pub(crate) fn new(limit: usize) -> Self {
        let (ready, waiting) = (VecDeque::new(), BTreeMap::new());
        let inner = Inner { limit, running: 0, ready, starters: 0, waiting, closed: false, drained: false };
        let handle = tokio::runtime::Handle::current();
        let starters = handle.metrics().num_workers();
        Self { inner: Mutex::new(inner), runners: TaskTracker::new(), handle, starters }
    }

    /// How many jobs may run at a time.
    pub(crate) fn limit(&self) -> usize {
        lock(&self.inner).limit
    }

    /// How many more jobs could run, and how many wait to begin.
    pub(crate) fn load(&self) -> (usize, usize) {
        let inner = lock(&self.inner);
        let begun = inner.running - inner.ready.len();
        (inner.limit.saturating_sub(begun), inner.waiting.len() + inner.ready.len())
    }

    /// Starts a job if there are a free slot, for which nothing waits, and a place for it; else gives it back.
    pub(crate) fn start_now(self: &Arc<Self>, mut job: Box<Job>) -> Result<(), Box<Job>> {
        let mut inner = lock(&self.inner);
        if inner.running >= inner.limit || inner.closed || !inner.waiting.is_empty() {
            return Err(job);
        }
        job.place = job.runtime.place_now(&job.definition);
        if job.place.is_none() {
            return Err(job);
        }
        inner.running += 1;
        self.start(inner, job);
        Ok(())
    }

    /// Starts a job, lets it wait for a slot, or hands its message back when what waited was handed back.
    pub(crate) fn submit(self: &Arc<Self>, job: Box<Job>) {
        let mut inner = lock(&self.inner);
        if inner.drained {
            drop(inner);
            job.hand_back();
        } else if inner.running < inner.limit && !inner.closed {
            inner.running += 1;
            self.start(inner, job);
        } else {
            inner.waiting.insert(job.rank(), job);
        }
    }

    /// Changes how many jobs may run at a time.
    pub(crate) fn resize(self: &Arc<Self>, limit: usize) {
        let mut inner = lock(&self.inner);
        inner.limit = limit;
        while inner.running < limit && !inner.closed {
            let Some((_, job)) = inner.waiting.pop_first() else { break };
            inner.running += 1;
            self.start(inner, job);
            inner = lock(&self.inner);
        }
    }

    /// Lets nothing start any more.
    pub(crate) fn close(&self) {
        lock(&self.inner).closed = true;
        self.runners.close();
    }

    /// Returns the jobs that have not begun, whether they wait for a slot or have one.
    pub(crate) fn drain(&self) -> Vec<Job> {
        let mut inner = lock(&self.inner);
        inner.drained = true;
        let ready = std::mem::take(&mut inner.ready);
        inner.running -= ready.len();
        let waiting = std::mem::take(&mut inner.waiting).into_values();
        ready.into_iter().chain(waiting).map(|job| *job).collect()
    }

    /// Returns when nothing runs any more; to be called after [`Slots::close`].
    pub(crate) async fn idle(&self) {
        self.runners.wait().await;
    }

    /// Starts a job that has a slot.
    fn start(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>, job: Box<Job>) {
        inner.ready.push_back(job);
        self.help(inner);
    }

    /// Lets one more starter begin what is ready, if there may be one.
    fn help(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>) {
        if inner.ready.is_empty() || inner.starters >= self.starters {
            return;
        }
        inner.starters += 1;
        drop(inner);
        let slots = Arc::clone(self);
        self.runners.spawn_on(async move { slots.begin_all().await }, &self.handle);
    }

    /// Begins one job after the other while any is ready.
    async fn begin_all(self: Arc<Self>) {
        let _starter = Starter(Arc::clone(&self));
        let mut turn = 0;
        loop {
            let job = {
                let mut inner = lock(&self.inner);
                let Some(job) = inner.ready.pop_front() else { return };
                // Should this one keep the thread for long, another one goes on.
                self.help(inner);
                job
            };
            let mut run = Box::pin(Arc::clone(&self).run(job));
            if !is_done_at_once(run.as_mut()).await {
                self.runners.spawn_on(run, &self.handle);
            }
            turn += 1;
            if turn % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Runs a job, and those after it that wait for its slot.
    async fn run(self: Arc<Self>, first: Box<Job>) {
        let mut job = Some(first);
        while let Some(current) = job {
            current.run_or_hand_back().await;
            job = self.next();
        }
    }

    /// The next job for a slot that became free; `None` gives the slot back.
    fn next(&self) -> Option<Box<Job>> {
        let mut inner = lock(&self.inner);
        let may_start = inner.running <= inner.limit && !inner.closed;
        let job = if may_start { inner.waiting.pop_first().map(|(_, job)| job) } else { None };
        if job.is_none() {
            inner.running -= 1;
        }
        job
    }
}

/// Counts as a starter until it is dropped, also by a panic.
struct Starter(Arc<Slots>);

impl Drop for Starter {
    fn drop(&mut self) {
        let mut inner = lock(&self.0.inner);
        inner.starters -= 1;
        // What became ready since this one looked last.
        self.0.help(inner);
    }
}

/// Goes on with a future once; whether it has ended.
async fn is_done_at_once(mut future: Pin<&mut impl Future>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
}
