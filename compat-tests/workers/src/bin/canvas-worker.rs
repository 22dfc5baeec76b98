//! The worker that is given generated canvases; `tests/canvases/canvas_app.py` has the same tasks for Celery's own.
//!
//! Every task takes what comes before it and a tag, and returns both: a result tells the whole way that it came.

use std::time::Duration;

use celeriac::canvas::{chain, group};
use celeriac::config::Config;
use celeriac::message::Signature;
use celeriac::prelude::*;
use compat_workers::start;
use redis::AsyncCommands;

/// The tag, and what came before it.
type Wrapped = (String, Value);

#[celeriac::task(name = "canvas.wrap")]
async fn wrap(before: Value, tag: String) -> Wrapped {
    (tag, before)
}

/// The same on a blocking thread, acknowledged late.
#[celeriac::task(name = "canvas.wrap_late", acks_late)]
fn wrap_late(before: Value, tag: String) -> Wrapped {
    (tag, before)
}

#[celeriac::task(name = "canvas.double")]
async fn double(x: i64) -> i64 {
    2 * x
}

#[celeriac::task(name = "canvas.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

/// Succeeds when it is run the second time.
#[celeriac::task(name = "canvas.flaky")]
async fn flaky(ctx: Context, before: Value, tag: String) -> TaskResult<Wrapped> {
    match ctx.request().retries() {
        0 => Err(ctx.retry().countdown(0).exc(TaskError::builtin("KeyError", tag)).into()),
        _ => Ok((tag, before)),
    }
}

#[celeriac::task(name = "canvas.fail")]
async fn fail(_before: Value, tag: String) -> TaskResult<()> {
    Err(TaskError::builtin("ValueError", tag))
}

/// Is replaced by one task.
#[celeriac::task(name = "canvas.swap")]
async fn swap(ctx: Context, before: Value, tag: String) -> TaskResult<()> {
    Err(ctx.replace(wrap::s(before, tag)))
}

/// Is replaced by a chain.
#[celeriac::task(name = "canvas.swap_chain")]
async fn swap_chain(ctx: Context, before: Value, tag: String) -> TaskResult<()> {
    let after = Signature::new(wrap::NAME).arg(format!("{tag}'"));
    Err(ctx.replace(chain([wrap::s(before, tag).into(), after])))
}

/// Is replaced by a group.
#[celeriac::task(name = "canvas.swap_group")]
async fn swap_group(ctx: Context, before: Value, tag: String) -> TaskResult<()> {
    let other = wrap::s(before.clone(), format!("{tag}'"));
    Err(ctx.replace(group([wrap::s(before, tag), other])))
}

/// Sends another task, which becomes its child.
#[celeriac::task(name = "canvas.spawn")]
async fn spawn(ctx: Context, before: Value, tag: String) -> TaskResult<Wrapped> {
    ctx.send(wrap::s(Value::Null, format!("{tag}*"))).await?;
    Ok((tag, before))
}

/// Ends without a result.
#[celeriac::task(name = "canvas.ignore")]
async fn ignore() -> TaskResult<()> {
    Err(TaskError::Ignore)
}

/// Ends without a result, with a success that it has stored itself.
#[celeriac::task(name = "canvas.store_and_ignore")]
async fn store_and_ignore(ctx: Context, value: Value) -> TaskResult<()> {
    ctx.update_state("SUCCESS", value).await?;
    Err(TaskError::Ignore)
}

/// Adds a group to its chord, in which another one is.
#[celeriac::task(name = "canvas.grow")]
async fn grow(ctx: Context, parts: i64) -> TaskResult<i64> {
    let doubling = |range: std::ops::Range<i64>| group(range.map(double::s));
    ctx.add_to_chord(group([doubling(0..parts), doubling(parts..2 * parts)])).await?;
    Ok(-1)
}

/// Is to be replaced by nothing, which fails.
#[celeriac::task(name = "canvas.swap_nothing")]
async fn swap_nothing(ctx: Context, _before: Value, _tag: String) -> TaskResult<()> {
    Err(ctx.replace(chain(Vec::<Signature>::new())))
}

#[celeriac::task(name = "canvas.reject")]
async fn reject(_before: Value, tag: String) -> TaskResult<()> {
    Err(TaskError::Reject { reason: tag, requeue: false })
}

/// Returns a text that the server of the test refuses to store.
#[celeriac::task(name = "canvas.unstorable")]
async fn unstorable(_before: Value, _tag: String) -> &'static str {
    "nobody stores this"
}

#[celeriac::task(name = "canvas.sleep", track_started)]
async fn sleep(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// An errback of the old style that counts its calls.
#[celeriac::task(name = "canvas.told")]
async fn told(record: State<Record>, task_id: String, tag: String) -> TaskResult<()> {
    record.count("told", format!("{tag}:{task_id}")).await
}

/// An errback of the new style that counts its calls.
#[celeriac::task(name = "canvas.told_here")]
async fn told_here(
    record: State<Record>,
    request: Value,
    _exception: Value,
    _traceback: Value,
    tag: String,
) -> TaskResult<()> {
    let id = request.get("id").and_then(Value::as_str).unwrap_or_default();
    record.count("told", format!("{tag}:{id}")).await
}

/// An errback of the old style.
#[celeriac::task(name = "canvas.errback")]
async fn errback(_task_id: String) -> &'static str {
    "told"
}

/// Where it is counted how often something ran; a connection of its own each time, since tests break them.
struct Record(redis::Client);

impl Record {
    async fn add(&self, list: &str, entry: i64) -> TaskResult<()> {
        let mut connection = self.0.get_multiplexed_async_connection().await?;
        Ok(connection.rpush::<_, _, ()>(list, entry).await?)
    }

    async fn count(&self, hash: &str, field: String) -> TaskResult<()> {
        let mut connection = self.0.get_multiplexed_async_connection().await?;
        Ok(connection.hincr::<_, _, _, ()>(hash, field, 1).await?)
    }
}

/// A part of a large chord; one of a hundred is retried.
#[celeriac::task(name = "canvas.part", acks_late)]
async fn part(ctx: Context, n: i64) -> TaskResult<i64> {
    if n % 100 == 7 && ctx.request().retries() == 0 {
        return Err(ctx.retry().countdown(0).into());
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    Ok(n)
}

#[celeriac::task(name = "canvas.fail_part", acks_late)]
async fn fail_part(n: i64) -> TaskResult<i64> {
    if n == 13 {
        return Err(TaskError::builtin("ValueError", "unlucky"));
    }
    Ok(n)
}

#[celeriac::task(name = "canvas.collect")]
async fn collect(record: State<Record>, parts: Vec<i64>) -> TaskResult<Vec<i64>> {
    record.add("bodies", parts.len() as i64).await?;
    Ok(parts)
}

#[celeriac::task(name = "canvas.note")]
async fn note(record: State<Record>, _task_id: String) -> TaskResult<()> {
    record.add("errbacks", 1).await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let worker = Worker::from_options("canvas", &start(Config::default()))?
        .state(Record(redis::Client::open(std::env::var("CELERY_BROKER_URL")?)?))
        .task(part)
        .task(fail_part)
        .task(collect)
        .task(note)
        .task(wrap)
        .task(wrap_late)
        .task(double)
        .task(add)
        .task(flaky)
        .task(fail)
        .task(swap)
        .task(swap_chain)
        .task(swap_group)
        .task(spawn)
        .task(ignore)
        .task(store_and_ignore)
        .task(grow)
        .task(swap_nothing)
        .task(reject)
        .task(unstorable)
        .task(sleep)
        .task(told)
        .task(told_here)
        .task(errback);
    std::process::exit(worker.run().await?.exit_code());
}
