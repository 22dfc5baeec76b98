//! The worker with the tasks with which the golden samples were captured (`compat-tests/capture/capture.py`).

use std::time::Duration;

use celeriac::backend::ExceptionInfo;
use celeriac::config::Config;
use celeriac::message::Map;
use celeriac::prelude::*;
use celeriac::value;
use celeriac_beat::Source;
use compat_workers::start_with_beat;

#[celeriac::task(name = "vec.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[celeriac::task(name = "vec.mul")]
async fn mul(x: i64, y: i64) -> i64 {
    x * y
}

#[celeriac::task(name = "vec.noop")]
async fn noop(#[args] _args: Vec<Value>, #[kwargs] _kwargs: Map) {}

/// One value of each of kombu's types.
#[celeriac::task(name = "vec.typed")]
async fn typed() -> TaskResult<Value> {
    Ok(Value::Map(Map::from([
        ("dt".to_owned(), Value::DateTime("2026-01-02T03:04:05.678901+00:00".parse()?)),
        ("naive".to_owned(), Value::NaiveDateTime("2026-01-02T03:04:05".parse()?)),
        ("d".to_owned(), Value::Date("2026-01-02".parse()?)),
        ("t".to_owned(), Value::Time("03:04:05".parse()?)),
        ("dec".to_owned(), Value::Decimal("10.50".to_owned())),
        ("uuid".to_owned(), Value::Uuid("12345678-1234-5678-1234-567812345678".parse()?)),
        ("bytes".to_owned(), Value::Bytes(b"abc".to_vec())),
        ("bin".to_owned(), Value::Bytes(vec![0xff, 0xfe, 0])),
    ])))
}

#[celeriac::task(name = "vec.fail")]
async fn fail(#[default("boom".to_owned())] msg: String) -> TaskResult<()> {
    Err(TaskError::builtin("ValueError", msg))
}

#[celeriac::task(name = "vec.fail_domain")]
async fn fail_domain() -> TaskResult<()> {
    let args = vec!["code".into(), 42.into()];
    Err(TaskError::exception(ExceptionInfo::new("capture", "DomainError", args)))
}

#[celeriac::task(name = "vec.fail_nested")]
async fn fail_nested() -> TaskResult<()> {
    let args = vec!["nested".into(), Value::Decimal("1.5".to_owned())];
    Err(TaskError::exception(ExceptionInfo::new("capture", "Outer.Inner", args)))
}

#[celeriac::task(name = "vec.panic")]
async fn panic(text: String) {
    panic!("{text}");
}

#[celeriac::task(name = "vec.errback_old")]
async fn errback_old(task_id: String) -> String {
    task_id
}

#[celeriac::task(name = "vec.errback_new")]
async fn errback_new(_request: Value, exc: Value, _traceback: Value) -> Value {
    exc
}

#[celeriac::task(name = "vec.retry", max_retries = 2, default_retry_delay = 0.2)]
async fn retry(ctx: Context, x: i64) -> TaskResult<i64> {
    match ctx.request().retries() {
        0 => Err(ctx.retry().exc(TaskError::builtin("ValueError", "try again")).into()),
        _ => Ok(x),
    }
}

#[celeriac::task(name = "vec.retry_forever", max_retries = 1, default_retry_delay = 0.1)]
async fn retry_forever(ctx: Context) -> TaskResult<()> {
    Err(ctx.retry().into())
}

#[celeriac::task(name = "vec.progress")]
async fn progress(ctx: Context) -> TaskResult<&'static str> {
    ctx.update_state("PROGRESS", value!({"current": 3, "total": 10})).await?;
    Ok("done")
}

#[celeriac::task(name = "vec.started", track_started)]
async fn started() -> &'static str {
    "ok"
}

#[celeriac::task(name = "vec.sleep")]
async fn sleep(s: f64) -> f64 {
    tokio::time::sleep(Duration::from_secs_f64(s)).await;
    s
}

#[celeriac::task(name = "vec.sleep_late", acks_late)]
async fn sleep_late(s: f64) -> f64 {
    tokio::time::sleep(Duration::from_secs_f64(s)).await;
    s
}

#[celeriac::task(name = "vec.soft", soft_time_limit = 0.5)]
async fn soft(ctx: Context) -> TaskResult<()> {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(10)) => Ok(()),
        () = ctx.soft_limit().cancelled() => Err(TaskError::SoftTimeLimitExceeded),
    }
}

#[celeriac::task(name = "vec.hard", time_limit = 1)]
async fn hard() {
    tokio::time::sleep(Duration::from_secs(10)).await;
}

#[celeriac::task(name = "vec.ignore")]
async fn ignore() -> TaskResult<()> {
    Err(TaskError::Ignore)
}

#[celeriac::task(name = "vec.reject")]
async fn reject() -> TaskResult<()> {
    Err(TaskError::Reject { reason: "no thanks".to_owned(), requeue: false })
}

#[celeriac::task(name = "vec.reject_requeue", acks_late)]
async fn reject_requeue(ctx: Context) -> TaskResult<&'static str> {
    if ctx.request().redelivered() {
        return Ok("second time");
    }
    Err(TaskError::Reject { reason: "again".to_owned(), requeue: true })
}

#[celeriac::task(name = "vec.spawn")]
async fn spawn(ctx: Context) -> TaskResult<&'static str> {
    ctx.send(add::s(1, 1).task_id("child-of-spawn-1")).await?;
    Ok("spawned")
}

#[celeriac::task(name = "vec.replace")]
async fn replace(ctx: Context, x: i64) -> TaskResult<()> {
    Err(ctx.replace(add::s(x, 100)))
}

#[celeriac::task(name = "vec.noresult", ignore_result)]
async fn noresult() -> &'static str {
    "nobody sees this"
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = start_with_beat(Config::default());
    let worker = Worker::from_options("vectors", &options)?
        .task(add)
        .task(mul)
        .task(noop)
        .task(typed)
        .task(fail)
        .task(fail_domain)
        .task(fail_nested)
        .task(panic)
        .task(errback_old)
        .task(errback_new)
        .task(retry)
        .task(retry_forever)
        .task(progress)
        .task(started)
        .task(sleep)
        .task(sleep_late)
        .task(soft)
        .task(hard)
        .task(ignore)
        .task(reject)
        .task(reject_requeue)
        .task(spawn)
        .task(replace)
        .task(noresult);
    let entries = Source::settings(&options.config, None);
    std::process::exit(celeriac_beat::run_worker(worker, &options, entries).await?.exit_code());
}
