//! The children of a worker: the idle ones, the ids of all, and the start of new ones.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::process::{Died, Process, describe};
use crate::node::lock;
use crate::worker::shortage::Shortage;

/// The children of a worker.
pub(super) struct Children {
    idle: Mutex<Vec<Process>>,
    /// Every child, for remote control.
    pids: Mutex<BTreeSet<u32>>,
    /// How often all were replaced.
    generation: AtomicU64,
    /// How many there may be.
    most: AtomicUsize,
    /// How long a child may take to start.
    patience: Duration,
    shortage: Shortage,
    is_watched: AtomicBool,
    closed: CancellationToken,
}

/// A child with a task, or taken for one; it becomes idle when this is dropped.
pub(crate) struct Held {
    children: Arc<Children>,
    process: Option<Process>,
}

impl Children {
    /// No children yet.
    pub(super) fn new(most: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            pids: Mutex::default(),
            generation: AtomicU64::new(0),
            most: AtomicUsize::new(most),
            patience,
            shortage: Shortage::new(
                "child processes",
                "look at file descriptors (ulimit -n), processes (ulimit -u) and memory of this host; a program that needs long before Worker::run needs a higher worker_proc_alive_timeout",
            ),
            is_watched: AtomicBool::new(false),
            closed: CancellationToken::new(),
        })
    }

    /// An idle child, if there is one.
    pub(super) fn idle(self: &Arc<Self>) -> Option<Held> {
        loop {
            let mut process = lock(&self.idle).pop()?;
            match process.ended() {
                None => return Some(self.hold(process)),
                Some(status) => self.bury(process.pid, &describe(status)),
            }
        }
    }

    /// An idle or new child, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Held {
        if let Some(child) = self.idle() {
            return child;
        }
        if !self.is_watched.swap(true, Ordering::Relaxed) {
            tokio::spawn(Arc::clone(self).watch());
        }
        self.shortage
            .outlast(|| async move {
                match self.idle() {
                    Some(child) => Ok(child),
                    None => self.start().await,
                }
            })
            .await
    }

    pub(super) fn shortage(&self) -> &Shortage {
        &self.shortage
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        lock(&self.pids).iter().copied().collect()
    }

    /// Replaces the children: the idle ones now, the others when they become idle.
    pub(super) fn renew(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        for process in lock(&self.idle).drain(..) {
            self.forget(process.pid);
        }
    }

    /// Changes how many children there may be; those that are too many end when they are idle.
    pub(super) fn resize(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
        while lock(&self.pids).len() > most {
            let Some(process) = lock(&self.idle).pop() else { return };
            self.forget(process.pid);
        }
    }

    /// Ends the idle children, and all others as soon as they are idle.
    pub(super) async fn close(&self) {
        self.closed.cancel();
        let idle: Vec<Process> = lock(&self.idle).drain(..).collect();
        futures_util::future::join_all(idle.into_iter().map(Process::dismiss)).await;
    }

    async fn start(self: &Arc<Self>) -> io::Result<Held> {
        let generation = self.generation.load(Ordering::Relaxed);
        let process = Process::start(self.patience, generation).await?;
        log::debug!(pid = process.pid; "Child process {} started", process.pid);
        lock(&self.pids).insert(process.pid);
        Ok(self.hold(process))
    }

    fn hold(self: &Arc<Self>, process: Process) -> Held {
        Held { children: Arc::clone(self), process: Some(process) }
    }

    /// Replaces idle children that die, until the children are closed.
    async fn watch(self: Arc<Self>) {
        let mut ends = match signal(SignalKind::child()) {
            Ok(ends) => ends,
            Err(error) => {
                log::warn!(error:% = error; "Dead idle child processes are only noticed when a task comes: {error}");
                return;
            }
        };
        loop {
            tokio::select! {
                () = self.closed.cancelled() => return,
                _ = ends.recv() => {}
            }
            for _ in 0..self.reap() {
                if self.pids().len() >= self.most.load(Ordering::Relaxed) {
                    break;
                }
                // A task that needs one tries again, and reports why none can be had.
                let Ok(started) = self.start().await else { break };
                drop(started);
            }
        }
    }

    /// Removes the idle children that have died, and returns how many these are.
    fn reap(&self) -> usize {
        let mut dead = Vec::new();
        lock(&self.idle).retain_mut(|process| match process.ended() {
            None => true,
            Some(status) => {
                dead.push((process.pid, status));
                false
            }
        });
        dead.iter().for_each(|(pid, status)| self.bury(*pid, &describe(*status)));
        dead.len()
    }

    fn bury(&self, pid: u32, end: &str) {
        self.forget(pid);
        log::warn!(pid, end; "Idle child process {pid} has ended and is replaced: {end}");
    }

    fn forget(&self, pid: u32) {
        lock(&self.pids).remove(&pid);
    }

    /// Lets a child wait for the next task, unless it is not wanted any more.
    fn put(&self, process: Process) {
        let is_surplus = lock(&self.pids).len() > self.most.load(Ordering::Relaxed);
        let is_old = process.generation != self.generation.load(Ordering::Relaxed);
        if is_surplus || is_old || process.is_busy || self.closed.is_cancelled() {
            self.forget(process.pid);
            return;
        }
        lock(&self.idle).push(process);
    }
}

impl Held {
    /// The process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, |process| process.pid)
    }

    /// How many tasks it has run.
    pub(super) fn runs(&self) -> u32 {
        self.process.as_ref().map_or(0, |process| process.runs)
    }

    /// Runs a task.
    ///
    /// # Errors
    /// [`Died`] when the child has ended, or does not answer as it should.
    pub(super) async fn run(&mut self, soft: Option<f64>, message: &[u8]) -> Result<Answer, Died> {
        match &mut self.process {
            Some(process) => process.run(soft, message).await,
            None => Err(Died::Idle(io::ErrorKind::NotFound.into())),
        }
    }

    /// Closes the connection, upon which the child ends, and waits for that.
    pub(super) async fn dismiss(mut self) {
        if let Some(process) = self.process.take() {
            self.children.forget(process.pid);
            process.dismiss().await;
        }
    }

    /// Waits for the end of a child that dies, and brings it about if it does not come.
    pub(super) async fn end(mut self) -> io::Result<std::process::ExitStatus> {
        self.children.forget(self.pid());
        match self.process.take() {
            Some(mut process) => process.end().await,
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Sends a signal and waits for the end; a child that survives is killed.
    pub(super) async fn kill(mut self, signum: i32) {
        self.children.forget(self.pid());
        if let Some(mut process) = self.process.take() {
            process.kill(signum).await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            self.children.put(process);
        }
    }
}
