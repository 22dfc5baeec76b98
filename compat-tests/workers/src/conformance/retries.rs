//! Tasks that run again.

#![expect(clippy::disallowed_names, reason = "the suite passes these arguments by name")]

use std::sync::atomic::{AtomicU32, Ordering};

use celeriac::message::Map;
use celeriac::prelude::*;
use celeriac::task::Retry;

use super::failures::{expected_exception, unpickleable_exception};
use super::python;

pub(super) fn register(worker: Worker) -> Worker {
    worker
        .task(retry)
        .task(retry_unpickleable)
        .task(retry_with_args_after_kwargs)
        .task(retry_with_kwargs_after_args)
        .task(retry_once)
        .task(retry_once_ignore_result)
        .task(retry_once_with_result)
        .task(retry_once_priority)
        .task(retry_once_headers)
        .task(auto_retry_class_task)
}

/// Counts the attempts of the call that is under way, as the suite does on the task object.
static ATTEMPT: AtomicU32 = AtomicU32::new(0);

#[celeriac::task(name = "t.integration.tasks.retry", default_retry_delay = 1)]
async fn retry(ctx: Context, return_value: Option<Value>) -> TaskResult<Value> {
    if let Some(value) = return_value.filter(python::is_true) {
        let attempt = ATTEMPT.load(Ordering::Relaxed);
        println!("attempt {attempt}");
        if attempt >= 3 {
            ATTEMPT.store(0, Ordering::Relaxed);
            return Ok(value);
        }
        ATTEMPT.store(attempt + 1, Ordering::Relaxed);
    }
    Err(ctx.retry().exc(expected_exception(Vec::new())).countdown(5).into())
}

#[celeriac::task(name = "t.integration.tasks.retry_unpickleable", default_retry_delay = 1)]
async fn retry_unpickleable(ctx: Context, foo: Value, _bar: Value, retry_kwargs: Map) -> TaskResult<()> {
    let mut retry = ctx.retry().exc(unpickleable_exception(&foo));
    for (name, value) in retry_kwargs {
        retry = match (name.as_str(), &value) {
            ("countdown", countdown) => retry.countdown(countdown.as_f64().unwrap_or_default()),
            ("max_retries", Value::Int(limit)) => retry.max_retries(u32::try_from(*limit).ok()),
            _ => retry.option(name, value),
        };
    }
    Err(retry.into())
}

#[celeriac::task(name = "t.integration.tasks.retry_with_args_after_kwargs", max_retries = 1)]
async fn retry_with_args_after_kwargs(
    ctx: Context,
    foo: Value,
    bar: Value,
    label: Option<Value>,
) -> TaskResult<Value> {
    if ctx.request().retries() == 0 {
        let one = Value::Int(1);
        return Err(ctx
            .retry()
            .args([python::add(&foo, &one)?, python::add(&bar, &one)?])
            .countdown(0)
            .into());
    }
    let mut seen = seen(&ctx, foo, bar);
    seen.insert("label".to_owned(), label.into());
    Ok(Value::Map(seen))
}

#[celeriac::task(name = "t.integration.tasks.retry_with_kwargs_after_args", max_retries = 1)]
async fn retry_with_kwargs_after_args(ctx: Context, foo: Value, bar: Value) -> TaskResult<Value> {
    if ctx.request().retries() == 0 {
        let kwargs = Map::from_iter([("foo".to_owned(), python::add(&foo, &Value::Int(1))?)]);
        return Err(ctx.retry().kwargs(kwargs).countdown(0).into());
    }
    Ok(Value::Map(seen(&ctx, foo, bar)))
}

fn seen(ctx: &Context, foo: Value, bar: Value) -> Map {
    let retries = Value::from(ctx.request().retries());
    let seen = [("foo", foo), ("bar", bar), ("retries", retries), ("is_eager", false.into())];
    seen.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[celeriac::task(name = "t.integration.tasks.retry_once", expires = 120, max_retries = 1)]
async fn retry_once(ctx: Context, #[args] _args: Vec<Value>, #[kwargs] options: Map) -> TaskResult<u32> {
    match ctx.request().retries() {
        0 => Err(retry_with(&ctx, &options).option("expires", options.get("expires").cloned()).into()),
        retries => Ok(retries),
    }
}

/// A retry with the caller's `countdown` and `max_retries`, or the suite's.
fn retry_with(ctx: &Context, options: &Map) -> Retry {
    let countdown = options.get("countdown").and_then(Value::as_f64).unwrap_or(0.1);
    let max_retries = options.get("max_retries").and_then(Value::as_i64).unwrap_or(1);
    ctx.retry().countdown(countdown).max_retries(u32::try_from(max_retries).unwrap_or_default())
}

#[celeriac::task(name = "t.integration.tasks.retry_once_ignore_result", ignore_result)]
async fn retry_once_ignore_result(ctx: Context) -> TaskResult<u32> {
    once(&ctx)
}

#[celeriac::task(name = "t.integration.tasks.retry_once_with_result", ignore_result = false)]
async fn retry_once_with_result(ctx: Context) -> TaskResult<u32> {
    once(&ctx)
}

fn once(ctx: &Context) -> TaskResult<u32> {
    match ctx.request().retries() {
        0 => Err(ctx.retry().countdown(0).into()),
        retries => Ok(retries),
    }
}

#[celeriac::task(name = "t.integration.tasks.retry_once_priority", max_retries = 1)]
async fn retry_once_priority(
    ctx: Context,
    #[args] _args: Vec<Value>,
    #[kwargs] options: Map,
) -> TaskResult<Option<u8>> {
    match ctx.request().retries() {
        0 => Err(retry_with(&ctx, &options).into()),
        _ => Ok(ctx.request().properties.priority),
    }
}

#[celeriac::task(name = "t.integration.tasks.retry_once_headers", max_retries = 1)]
async fn retry_once_headers(
    ctx: Context,
    #[args] _args: Vec<Value>,
    #[kwargs] options: Map,
) -> TaskResult<Value> {
    if ctx.request().retries() == 0 {
        return Err(retry_with(&ctx, &options).into());
    }
    let custom = &ctx.request().headers.extra;
    Ok(if custom.is_empty() { Value::Null } else { Value::Map(custom.clone()) })
}

#[celeriac::task(
    name = "auto_retry_class_task",
    autoretry_for = ["ValueError"],
    max_retries = 1,
    retry_backoff
)]
async fn auto_retry_class_task(ctx: Context) -> TaskResult<u32> {
    match ctx.request().retries() {
        0 => Err(TaskError::exception(celeriac::backend::ExceptionInfo::new(
            "builtins",
            "ValueError",
            Vec::new(),
        ))),
        retries => Ok(retries),
    }
}
