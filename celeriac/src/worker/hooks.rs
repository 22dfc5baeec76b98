//! Hooks: functions of the program that the worker calls, under the names of Celery's signals.
//!
//! Source of names and moments: celery 5.7 `celery/signals.py`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Worker;
use crate::backend::ExceptionInfo;
use crate::message::Value;
use crate::task::{Request, Retry};

type Functions<F> = Vec<Box<F>>;
type About<T> = dyn Fn(&Request, T) + Send + Sync;
type AboutRef<T> = dyn Fn(&Request, &T) + Send + Sync;

/// The functions that a worker calls; they run one after the other, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) task_prerun: Functions<dyn Fn(&Request) + Send + Sync>,
    pub(crate) task_postrun: Functions<About<Duration>>,
    pub(crate) task_success: Functions<AboutRef<Value>>,
    pub(crate) task_failure: Functions<AboutRef<ExceptionInfo>>,
    pub(crate) task_retry: Functions<AboutRef<Retry>>,
    pub(crate) worker_ready: Functions<dyn Fn() + Send + Sync>,
    pub(crate) worker_shutdown: Functions<dyn Fn() + Send + Sync>,
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
