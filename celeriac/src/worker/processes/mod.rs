//! The process pool: tasks that can be killed, and whose end harms nobody else.
//!
//! A child process is this program, started once more with the same arguments. Its `main` goes the same way up to
//! [`Worker::run`](super::Worker::run), which there runs tasks that the worker sends, until the worker is gone. So a
//! child has the same tasks and states. Children start when they are needed, at most one a slot, and stay.

mod answer;
mod child;
mod lost;
mod process;
mod wire;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use answer::Answer;
pub(crate) use child::{Child, is_child};
use process::{Process, describe};

use super::execute::{Ended, Limits, after};
use super::runtime::Runtime;
use super::state::lock;
use crate::config::{Config, Pool as WorkerPool};
use crate::message::{Headers, Message, Properties, Serializer, envelope};
use crate::task::{Context, Handler, Pool, TaskDefinition, TaskError};

/// Number of `SIGKILL`.
const KILL: i32 = 9;
/// Number of `SIGTERM`, with which a task is terminated unless told otherwise.
const TERM: i32 = 15;
/// How often a child is started before its task fails.
const STARTS: u32 = 3;

/// The child processes of a worker.
pub(crate) struct Processes {
    idle: Mutex<Vec<Process>>,
    /// All children, for remote control.
    pids: Mutex<Vec<u32>>,
    jobs: AtomicU64,
    generation: AtomicU64,
    max_tasks: Option<u32>,
    max_memory_kib: Option<u64>,
    start_patience: Duration,
}

impl Runtime {
    /// Whether a task runs in a child process; those of Celery itself never do.
    pub(crate) fn runs_in_process(&self, definition: &TaskDefinition) -> bool {
        definition.options.pool == Pool::Process
            || (self.config().worker_pool == WorkerPool::Processes && !definition.name.starts_with("celery."))
    }

    /// Runs a task in a child process.
    pub(crate) async fn execute_in_process(
        &self,
        definition: &TaskDefinition,
        context: &Context,
        limits: Limits,
        serial: u64,
    ) -> Ended {
        let request = context.request();
        let (headers, properties) =
            (Headers::clone(&request.headers), Properties::clone(&request.properties));
        let mut message = Message { headers, properties, ..Message::default() };
        if let Err(error) = message.set_body(&request.body, Serializer::Json, None) {
            return Ended::Returned(Err(error.into()));
        }
        let signum = || self.state.requests().get(&serial).and_then(|known| known.signum).unwrap_or(TERM);
        self.processes
            .execute(&envelope::encode(&message), context, limits, signum, &definition.handler)
            .await
    }
}

impl Processes {
    /// No processes yet.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            idle: Mutex::default(),
            pids: Mutex::default(),
            jobs: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            max_tasks: config.worker_max_tasks_per_child.filter(|most| *most > 0),
            max_memory_kib: config.worker_max_memory_per_child.filter(|most| *most > 0),
            start_patience: config.worker_proc_alive_timeout,
        }
    }

    /// Runs a task in a child; `signum` says with which signal it is terminated.
    pub(crate) async fn execute(
        &self,
        message: &[u8],
        context: &Context,
        limits: Limits,
        signum: impl Fn() -> i32,
        handler: &Handler,
    ) -> Ended {
        let job = self.jobs.fetch_add(1, Ordering::Relaxed);
        let taken = tokio::select! {
            biased;
            taken = self.take() => taken,
            () = limits.terminate.cancelled() => return Ended::Terminated,
            () = limits.abort.cancelled() => return Ended::Cancelled,
        };
        let mut process = match taken {
            Ok(process) => process,
            Err(error) => return Ended::Lost(format!("Worker could not be started: {error} Job: {job}.")),
        };
        let (kill, ended) = tokio::select! {
            biased;
            answer = process.run(limits.soft, message) => {
                return match answer {
                    Ok(answer) => self.finish(process, answer, context, handler).await,
                    Err(error) => self.lose(process, job, &error).await,
                };
            }
            () = limits.terminate.cancelled() => (signum(), Ended::Terminated),
            () = limits.abort.cancelled() => (KILL, Ended::Cancelled),
            () = after(limits.hard) => (KILL, Ended::TimedOut(limits.hard.unwrap_or_default())),
        };
        process.kill(kill).await;
        self.forget(process.pid);
        ended
    }

    /// The process ids of the children.
    pub(crate) fn pids(&self) -> Vec<u32> {
        lock(&self.pids).clone()
    }

    /// Replaces the children: the idle ones now, the others after their task.
    pub(crate) fn restart(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        for process in lock(&self.idle).drain(..) {
            self.forget(process.pid);
        }
    }

    /// Ends the children, on shutdown.
    pub(crate) async fn close(&self) {
        let idle: Vec<Process> = lock(&self.idle).drain(..).collect();
        futures_util::future::join_all(idle.into_iter().map(Process::dismiss)).await;
    }

    async fn take(&self) -> std::io::Result<Process> {
        if let Some(process) = lock(&self.idle).pop() {
            return Ok(process);
        }
        let mut tries = 1;
        loop {
            let generation = self.generation.load(Ordering::Relaxed);
            match Process::start(self.start_patience, generation).await {
                Ok(process) => {
                    log::debug!(pid = process.pid; "Child process {} started", process.pid);
                    lock(&self.pids).push(process.pid);
                    return Ok(process);
                }
                Err(error) if tries == STARTS => return Err(error),
                Err(error) => log::error!(error:% = error; "A child process could not be started: {error}"),
            }
            tries += 1;
        }
    }

    async fn finish(&self, process: Process, answer: Answer, context: &Context, handler: &Handler) -> Ended {
        let Answer { ended, children, resident_kib } = answer;
        children.into_iter().for_each(|child| context.add_child(child));
        // The thread of a blocking function goes on after its soft limit.
        let is_busy = matches!(ended, Ended::Returned(Err(TaskError::SoftTimeLimitExceeded)))
            && matches!(handler, Handler::Blocking(_));
        let resident = u64::try_from(resident_kib).unwrap_or_default();
        let is_large = self.max_memory_kib.is_some_and(|most| resident > most);
        if is_large {
            let (pid, most) = (process.pid, self.max_memory_kib.unwrap_or_default());
            log::warn!(pid, resident_kib = resident; "Child process {pid} exiting after exceeding memory limit ({resident}KiB / {most}KiB)");
        }
        let is_old = self.max_tasks.is_some_and(|most| process.runs >= most)
            || process.generation != self.generation.load(Ordering::Relaxed);
        if is_busy || is_large || is_old {
            self.forget(process.pid);
            process.dismiss().await;
        } else {
            lock(&self.idle).push(process);
        }
        ended
    }

    async fn lose(&self, mut process: Process, job: u64, error: &std::io::Error) -> Ended {
        self.forget(process.pid);
        let end = match process.end().await {
            Ok(status) => describe(status),
            Err(_) => error.to_string(),
        };
        Ended::Lost(format!("Worker exited prematurely: {end} Job: {job}."))
    }

    fn forget(&self, pid: u32) {
        lock(&self.pids).retain(|known| *known != pid);
    }
}
