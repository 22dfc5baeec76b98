//! Tasks that fail, are rejected, or run into a limit.

#![expect(clippy::disallowed_names, reason = "the suite passes these arguments by name")]

use celeriac::backend::{ExceptionInfo, TaskMeta, TaskState};
use celeriac::prelude::*;

pub(super) fn register(worker: Worker) -> Worker {
    worker
        .task(raise_error)
        .task(fail)
        .task(fail_unpickleable)
        .task(store_success_then_reject)
        .task(reject_then_succeed)
        .task(reject_without_requeue)
        .task(soft_time_limit_must_exceed_time_limit)
}

/// The suite's `ExpectedException` with those arguments.
pub(super) fn expected_exception(args: Vec<Value>) -> TaskError {
    TaskError::exception(ExceptionInfo::new("t.integration.tasks", "ExpectedException", args))
}

/// The suite's `UnpickleableException`, in the wrapper in which Celery stores what no other process can make again.
pub(super) fn unpickleable_exception(foo: &Value) -> TaskError {
    let repr = celeriac::message::repr::saferepr(&Value::List(vec![foo.clone()]), 128, 3);
    let args = vec![
        "t.integration.tasks".into(),
        "UnpickleableException".into(),
        Value::List(vec![foo.clone()]),
        format!("UnpickleableException({})", repr.trim_matches(['[', ']'])).into(),
    ];
    TaskError::exception(ExceptionInfo::new(
        "celery.utils.serialization",
        "UnpickleableExceptionWrapper",
        args,
    ))
}

#[celeriac::task(name = "t.integration.tasks.raise_error")]
pub(super) async fn raise_error(#[args] _args: Vec<Value>) -> TaskResult<()> {
    Err(TaskError::builtin("ValueError", "deliberate error"))
}

#[celeriac::task(name = "t.integration.tasks.fail")]
pub(super) async fn fail(#[args] args: Vec<Value>) -> TaskResult<()> {
    Err(expected_exception([vec!["Task expected to fail".into()], args].concat()))
}

#[celeriac::task(name = "t.integration.tasks.fail_unpickleable")]
async fn fail_unpickleable(foo: Value, _bar: Value) -> TaskResult<()> {
    Err(unpickleable_exception(&foo))
}

#[celeriac::task(name = "t.integration.tasks.store_success_then_reject", acks_late)]
async fn store_success_then_reject(ctx: Context) -> TaskResult<&'static str> {
    if !ctx.request().redelivered() {
        let meta = TaskMeta::new(ctx.request().id.clone(), TaskState::Success, "first-pass".into());
        ctx.app()?.backend()?.store(&meta).await?;
        return Err(TaskError::Reject { reason: String::new(), requeue: true });
    }
    Ok("dedup-pass")
}

#[celeriac::task(name = "t.integration.tasks.reject_then_succeed", acks_late)]
async fn reject_then_succeed(ctx: Context) -> TaskResult<&'static str> {
    if !ctx.request().redelivered() {
        return Err(TaskError::Reject { reason: String::new(), requeue: true });
    }
    Ok("second-pass")
}

#[celeriac::task(name = "t.integration.tasks.reject_without_requeue")]
async fn reject_without_requeue() -> TaskResult<()> {
    Err(TaskError::Reject { reason: "rejected".to_owned(), requeue: false })
}

#[celeriac::task(
    name = "t.integration.tasks.soft_time_limit_must_exceed_time_limit",
    soft_time_limit = 2,
    time_limit = 1
)]
async fn soft_time_limit_must_exceed_time_limit() {}
