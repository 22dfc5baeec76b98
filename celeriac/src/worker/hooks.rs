//! Hooks: functions of the program that the worker calls, under the names of Celery's signals.
//!
//! Source of names and moments: celery 5.7 `celery/signals.py`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Worker;
use crate::backend::ExceptionInfo;
use crate::message::{Headers, ProtocolError, Value};
use crate::task::{Request, Retry};

type Functions<F> = Vec<Box<F>>;
type Simple = dyn Fn() + Send + Sync;
type AboutMessage = dyn Fn(&Headers) + Send + Sync;
type AboutMalformed = dyn Fn(&Headers, &ProtocolError) + Send + Sync;
type AboutRevoked = dyn Fn(&Headers, Revocation) + Send + Sync;
type About<T> = dyn Fn(&Request, T) + Send + Sync;
type AboutRef<T> = dyn Fn(&Request, &T) + Send + Sync;

/// The functions that a worker calls; they run one after the other, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) task_received: Functions<AboutMessage>,
    pub(crate) task_unknown: Functions<AboutMessage>,
    pub(crate) task_rejected: Functions<AboutMalformed>,
    pub(crate) task_revoked: Functions<AboutRevoked>,
    pub(crate) task_prerun: Functions<dyn Fn(&Request) + Send + Sync>,
    pub(crate) task_postrun: Functions<About<Duration>>,
    pub(crate) task_success: Functions<AboutRef<Value>>,
    pub(crate) task_failure: Functions<AboutRef<ExceptionInfo>>,
    pub(crate) task_retry: Functions<AboutRef<Retry>>,
    pub(crate) worker_init: Functions<Simple>,
    pub(crate) worker_process_init: Functions<Simple>,
    pub(crate) worker_ready: Functions<Simple>,
    pub(crate) worker_shutdown: Functions<Simple>,
}

/// How a task was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revocation {
    /// Whether it ran already, and was ended.
    pub terminated: bool,
    /// The number of the signal that ended it.
    pub signum: Option<i32>,
    /// Whether it expired, and nobody revoked it.
    pub expired: bool,
}

/// Calls each function; one that panics harms neither the worker nor the others.
pub(crate) fn each<F: ?Sized>(functions: &[Box<F>], call: impl Fn(&F)) {
    for function in functions {
        if catch_unwind(AssertUnwindSafe(|| call(function))).is_err() {
            log::error!("A hook of the program panicked");
        }
    }
}

/// Hooks run in the worker's own process, also for tasks in child processes, and on the threads that run tasks: they
/// must return quickly and must not block.
impl Worker {
    /// Calls a function when the message of a known task came in and is to be run (`task_received`).
    pub fn on_task_received(mut self, hook: impl Fn(&Headers) + Send + Sync + 'static) -> Self {
        self.hooks.task_received.push(Box::new(hook));
        self
    }

    /// Calls a function when the message of a task came in that is not known here (`task_unknown`).
    pub fn on_task_unknown(mut self, hook: impl Fn(&Headers) + Send + Sync + 'static) -> Self {
        self.hooks.task_unknown.push(Box::new(hook));
        self
    }

    /// Calls a function when a message came in that cannot be read (`task_rejected`); of its headers are there those
    /// that could be.
    pub fn on_task_rejected(
        mut self,
        hook: impl Fn(&Headers, &ProtocolError) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.task_rejected.push(Box::new(hook));
        self
    }

    /// Calls a function when a task was revoked, expired, or was terminated (`task_revoked`).
    pub fn on_task_revoked(mut self, hook: impl Fn(&Headers, Revocation) + Send + Sync + 'static) -> Self {
        self.hooks.task_revoked.push(Box::new(hook));
        self
    }

    /// Calls a function before each run of a task (`task_prerun`).
    pub fn on_task_prerun(mut self, hook: impl Fn(&Request) + Send + Sync + 'static) -> Self {
        self.hooks.task_prerun.push(Box::new(hook));
        self
    }

    /// Calls a function after each run of a task, however it ended, with the time that it took (`task_postrun`).
    pub fn on_task_postrun(mut self, hook: impl Fn(&Request, Duration) + Send + Sync + 'static) -> Self {
        self.hooks.task_postrun.push(Box::new(hook));
        self
    }

    /// Calls a function when a task has succeeded, with what it returned (`task_success`).
    pub fn on_task_success(mut self, hook: impl Fn(&Request, &Value) + Send + Sync + 'static) -> Self {
        self.hooks.task_success.push(Box::new(hook));
        self
    }

    /// Calls a function when a task has failed, with the exception (`task_failure`).
    pub fn on_task_failure(
        mut self,
        hook: impl Fn(&Request, &ExceptionInfo) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.task_failure.push(Box::new(hook));
        self
    }

    /// Calls a function when a task is to be run again (`task_retry`).
    pub fn on_task_retry(mut self, hook: impl Fn(&Request, &Retry) + Send + Sync + 'static) -> Self {
        self.hooks.task_retry.push(Box::new(hook));
        self
    }

    /// Calls a function before the worker connects, in the worker's own process only (`worker_init`).
    ///
    /// What `main` does before [`Worker::run`] is done in each child process too; what is to be done once belongs here.
    pub fn on_worker_init(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.hooks.worker_init.push(Box::new(hook));
        self
    }

    /// Calls a function in each child process before its first task, and nowhere else (`worker_process_init`).
    pub fn on_worker_process_init(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.hooks.worker_process_init.push(Box::new(hook));
        self
    }

    /// Calls a function when the worker begins to consume (`worker_ready`).
    pub fn on_worker_ready(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.hooks.worker_ready.push(Box::new(hook));
        self
    }

    /// Calls a function when the worker has run its last task (`worker_shutdown`).
    pub fn on_worker_shutdown(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.hooks.worker_shutdown.push(Box::new(hook));
        self
    }
}
