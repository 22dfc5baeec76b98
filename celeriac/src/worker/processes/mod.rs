//! The process pool: tasks that can be killed, and whose end harms nobody else.
//!
//! A child process is this program, started once more with the same arguments. Its `main` goes the same way up to
//! [`Worker::run`](super::Worker::run), which there runs tasks that the worker sends, until the worker is gone. So a
//! child has the same tasks and states. Children start when they are needed, at most one a slot, and stay.
//!
//! Only a child that dies while it runs a task fails that task. While no child can be started, tasks wait with their
//! messages unacknowledged.

mod answer;
mod child;
mod children;
mod lost;
mod memory;
mod process;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use answer::Answer;
pub(crate) use child::{Child, is_child};
use children::Children;
pub(crate) use children::Held;
use process::{Died, describe};

use super::execute::{Ended, Limits, after};
use super::runtime::Runtime;
use super::shortage::Shortage;
use crate::backoff::Backoff;
use crate::config::{Config, Pool as WorkerPool};
use crate::message::{Headers, Message, Properties, Serializer, envelope};
use crate::task::{Context, Handler, Pool, TaskDefinition, TaskError};

/// Number of `SIGKILL`.
const KILL: i32 = 9;
/// Number of `SIGTERM`, with which a task is terminated unless told otherwise.
const TERM: i32 = 15;

/// The child processes of a worker.
pub(crate) struct Processes {
    children: Arc<Children>,
    jobs: AtomicU64,
    max_tasks: Option<u32>,
    max_memory_kib: Option<u64>,
}

impl Runtime {
    /// Whether a task runs in a child process; Celery's own tasks never do.
    pub(crate) fn runs_in_process(&self, definition: &TaskDefinition) -> bool {
        // A child process would be the test's program, on a clock of its own.
        !self.app.clock().is_simulated()
            && (definition.options.pool == Pool::Process
                || (self.config().worker_pool == WorkerPool::Processes
                    && !definition.name.starts_with("celery.")))
    }

    /// Runs a task in a child process.
    pub(crate) async fn execute_in_process(
        &self,
        child: Held,
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
            .execute(child, &envelope::encode(&message), context, limits, signum, &definition.handler)
            .await
    }
}

impl Processes {
    /// No processes yet, and at most so many.
    pub(crate) fn new(config: &Config, most: usize) -> Self {
        Self {
            children: Children::new(
                most,
                match config.worker_proc_alive_timeout {
                    std::time::Duration::ZERO => std::time::Duration::from_secs(4),
                    patience => patience,
                },
            ),
            jobs: AtomicU64::new(0),
            max_tasks: config.worker_max_tasks_per_child.filter(|most| *most > 0),
            max_memory_kib: config.worker_max_memory_per_child.filter(|most| *most > 0),
        }
    }

    /// A child that waits for a task, if there is one.
    pub(crate) fn idle(&self) -> Option<Held> {
        self.children.idle()
    }

    /// A child for a task, as soon as there is one.
    pub(crate) async fn take(&self) -> Held {
        self.children.take().await
    }

    /// Whether children can be started.
    pub(crate) fn shortage(&self) -> &Shortage {
        self.children.shortage()
    }

    /// Runs a task in a child; `signum` says with which signal it is terminated.
    async fn execute(
        &self,
        mut child: Held,
        message: &[u8],
        context: &Context,
        limits: Limits,
        signum: impl Fn() -> i32,
        handler: &Handler,
    ) -> Ended {
        let job = self.jobs.fetch_add(1, Ordering::Relaxed);
        let mut backoff = Backoff::default();
        loop {
            let (kill, ended) = tokio::select! {
                biased;
                answer = child.run(limits.soft, message) => match answer {
                    Ok(answer) => return self.finish(child, answer, context, handler).await,
                    Err(Died::Running(error)) => {
                        let end = child.end().await.map_or_else(|_| error.to_string(), describe);
                        return Ended::Lost(format!("Worker exited prematurely: {end} Job: {job}."));
                    }
                    Err(Died::Idle(error)) => {
                        let pid = child.pid();
                        let end = child.end().await.map_or_else(|_| error.to_string(), describe);
                        log::warn!(pid, end = end.as_str(); "Child process {pid} ended before its task began, which goes to another one: {end}");
                        let another = async {
                            tokio::time::sleep(backoff.next()).await;
                            self.take().await
                        };
                        child = tokio::select! {
                            biased;
                            () = limits.terminate.cancelled() => return Ended::Terminated,
                            () = limits.abort.cancelled() => return Ended::Cancelled,
                            child = another => child,
                        };
                        continue;
                    }
                },
                () = limits.terminate.cancelled() => (signum(), Ended::Terminated),
                () = limits.abort.cancelled() => (KILL, Ended::Cancelled),
                () = after(limits.hard) => (KILL, Ended::TimedOut(limits.hard.unwrap_or_default())),
            };
            child.kill(kill).await;
            return ended;
        }
    }

    /// The process ids of the children.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.pids()
    }

    /// Replaces the children: the idle ones now, the others after their task.
    pub(crate) fn restart(&self) {
        self.children.renew();
    }

    /// Changes how many children there may be.
    pub(crate) fn resize(&self, most: usize) {
        self.children.resize(most);
    }

    /// Ends the children, on shutdown.
    pub(crate) async fn close(&self) {
        self.children.close().await;
    }

    async fn finish(&self, child: Held, answer: Answer, context: &Context, handler: &Handler) -> Ended {
        let Answer { ended, children, resident_kib } = answer;
        children.into_iter().for_each(|child| context.add_child(child));
        // The thread of a blocking function goes on after its soft limit.
        let is_busy = matches!(ended, Ended::Returned(Err(TaskError::SoftTimeLimitExceeded)))
            && matches!(handler, Handler::Blocking(_));
        let large = self.max_memory_kib.filter(|most| resident_kib > *most);
        if let Some(most) = large {
            let pid = child.pid();
            log::warn!(pid, resident_kib; "Child process {pid} exiting after exceeding memory limit ({resident_kib}KiB / {most}KiB)");
        }
        let is_old = self.max_tasks.is_some_and(|most| child.runs() >= most);
        if is_busy || large.is_some() || is_old {
            child.dismiss().await;
        }
        ended
    }
}
