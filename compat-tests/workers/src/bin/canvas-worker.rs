//! The worker that is given generated canvases; `tests/canvases/canvas_app.py` has the same tasks for Celery's own.
//!
//! Every task takes what comes before it and a tag, and returns both: a result tells the whole way that it came.

use celeriac::canvas::{chain, group};
use celeriac::config::Config;
use celeriac::message::Signature;
use celeriac::prelude::*;
use compat_workers::start;

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

/// An errback of the old style.
#[celeriac::task(name = "canvas.errback")]
async fn errback(_task_id: String) -> &'static str {
    "told"
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let worker = Worker::from_options("canvas", &start(Config::default()))?
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
        .task(errback);
    std::process::exit(worker.run().await?.exit_code());
}
