//! The worker that Celery's tools look at: `celery inspect`, `control`, `events`, Flower, exporters.
//!
//! `tests/control/tools_app.py` has the same tasks for Celery's own worker.

use std::time::Duration;

use celeriac::canvas::chord;
use celeriac::config::Config;
use celeriac::control::Commands;
use celeriac::message::Signature;
use celeriac::prelude::*;
use compat_workers::start;

#[celeriac::task(name = "tools.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[celeriac::task(name = "tools.fail")]
async fn fail(text: String) -> TaskResult<()> {
    Err(TaskError::builtin("ValueError", text))
}

/// Succeeds when it is run the second time.
#[celeriac::task(name = "tools.retry", max_retries = 3)]
async fn retry(ctx: Context) -> TaskResult<u32> {
    match ctx.request().retries() {
        0 => Err(ctx.retry().countdown(0.1).exc(TaskError::builtin("ValueError", "try again")).into()),
        retries => Ok(retries),
    }
}

/// Takes a word that nobody shall see, and comes to its end in different ways.
#[celeriac::task(name = "tools.secret", max_retries = 3)]
async fn secret(ctx: Context, how: String, word: String) -> TaskResult<usize> {
    let queue = ctx.request().delivery_info().routing_key.clone();
    let again = || secret::s("done".to_owned(), word.clone()).option("queue", queue.as_str());
    match (how.as_str(), ctx.request().retries()) {
        ("retry", 0) => Err(ctx.retry().countdown(0).into()),
        ("args", 0) => Err(ctx.retry().args(["done", word.as_str()]).countdown(0).into()),
        ("exceeded", _) => Err(ctx.retry().max_retries(0).into()),
        ("replace", _) => Err(ctx.replace(again())),
        ("canvas", _) => {
            let body = Signature::from(again()).immutable(true);
            Err(ctx.replace(chord([again(), again()], body)))
        }
        _ => Ok(word.len()),
    }
}

#[celeriac::task(name = "tools.sleep")]
async fn sleep(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Sleeps on a thread.
#[celeriac::task(name = "tools.block")]
fn block(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}

/// Says in a folder that it has begun, and ends when it is told to.
#[celeriac::task(name = "tools.handshake")]
fn handshake(folder: String) -> TaskResult<()> {
    let file = |name: &str| std::path::Path::new(&folder).join(name);
    std::fs::write(file("started"), "")?;
    while !file("go").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(std::fs::write(file("done"), "")?)
}

/// Keeps a thread of the runtime busy, as no async task should.
#[celeriac::task(name = "tools.spin")]
async fn spin(seconds: f64) {
    let start = std::time::Instant::now();
    while start.elapsed().as_secs_f64() < seconds {
        std::hint::spin_loop();
    }
}

#[celeriac::task(name = "tools.limited", rate_limit = "1/s")]
async fn limited() {}

#[celeriac::task(name = "tools.quiet", send_events = false)]
async fn quiet() {}

#[celeriac::task(name = "tools.reject", acks_late)]
async fn reject() -> TaskResult<()> {
    Err(TaskError::Reject { reason: "not today".to_owned(), requeue: false })
}

#[celeriac::task(name = "tools.late", acks_late)]
async fn late(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Computes on a thread.
#[celeriac::task(name = "tools.compute")]
fn compute(seconds: f64) {
    let start = std::time::Instant::now();
    while start.elapsed().as_secs_f64() < seconds {
        std::hint::spin_loop();
    }
}

/// The process in which it runs, which is not the worker's.
#[celeriac::task(name = "tools.pid", pool = "process")]
fn pid() -> u32 {
    std::process::id()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = start(Config::default());
    let commands = Commands::default()
        .with("echo", |arguments| async move { Ok(Value::Map(arguments.as_map().clone())) })
        .with("greet", |arguments| async move {
            Ok(Value::from(format!("hello {}", arguments.text("name").unwrap_or("you"))))
        });
    let worker = Worker::from_options("tools", &options)?
        .commands(commands)
        .task(add)
        .task(fail)
        .task(retry)
        .task(secret)
        .task(sleep)
        .task(block)
        .task(handshake)
        .task(spin)
        .task(limited)
        .task(quiet)
        .task(reject)
        .task(late)
        .task(compute)
        .task(pid);
    std::process::exit(worker.run().await?.exit_code());
}
