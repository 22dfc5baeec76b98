//! Tasks as they are written for rusty-celery, on celeriac's worker; broker and backend are those of celeriac's settings.

// rusty-celery's macro makes a type of each function, under the function's name.
#![allow(non_local_definitions, non_upper_case_globals)]

use std::sync::Arc;
use std::time::Duration;

use celeriac::config::Config;
use celeriac::config::cli::WorkerOptions;
use celeriac_rusty_celery::{blocking, task, task_without_result};
use celery::CeleryBuilder;
use celery::prelude::*;

#[celery::task(name = "rusty.add")]
fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

/// What is left out is `None`.
#[celery::task(name = "rusty.greet")]
async fn greet(name: String, greeting: Option<String>) -> TaskResult<String> {
    Ok(format!("{}, {name}", greeting.unwrap_or_else(|| "hello".into())))
}

/// Knows its request.
#[celery::task(name = "rusty.bound", bind = true)]
fn bound(task: &Self) -> TaskResult<Vec<String>> {
    let request = &task.request;
    Ok(vec![request.id.clone(), request.retries.to_string(), request.hostname.clone().unwrap_or_default()])
}

/// Fails twice, then succeeds.
#[celery::task(name = "rusty.flaky", bind = true, max_retries = 3, max_retry_delay = 1)]
async fn flaky(task: &Self) -> TaskResult<u32> {
    match task.request.retries {
        retries @ 0..2 => Err(TaskError::ExpectedError(format!("attempt {retries}"))),
        retries => Ok(retries),
    }
}

/// Asks for its retry itself.
#[celery::task(name = "rusty.again", bind = true)]
async fn again(task: &Self) -> TaskResult<u32> {
    if task.request.retries == 0 { task.retry_with_countdown(0) } else { Ok(task.request.retries) }
}

#[celery::task(name = "rusty.exhausted", max_retries = 1, max_retry_delay = 0)]
async fn exhausted() -> TaskResult<()> {
    Err(TaskError::ExpectedError("always".into()))
}

#[celery::task(name = "rusty.broken", retry_for_unexpected = false, on_failure = on_failure)]
async fn broken(path: String) -> TaskResult<String> {
    std::fs::read_to_string(&path).with_unexpected_err(|| format!("cannot read {path}"))
}

async fn on_failure<T: Task>(task: &T, error: &TaskError) {
    log::info!("{} was told: {error}", task.name());
}

#[celery::task(name = "rusty.slow", time_limit = 1, max_retries = 0)]
async fn slow() {
    tokio::time::sleep(Duration::from_secs(60)).await
}

/// Blocks its thread.
#[celery::task(name = "rusty.block")]
fn block(seconds: f64) -> TaskResult<f64> {
    std::thread::sleep(Duration::from_secs_f64(seconds));
    Ok(seconds)
}

/// Sends another task, through rusty-celery.
#[celery::task(name = "rusty.send", bind = true)]
async fn send(task: &Self) -> TaskResult<String> {
    let sent = task.request.app.send_task(add::new(20, 22)).await.with_expected_err(|| "cannot send")?;
    Ok(sent.task_id)
}

/// What serde cannot write.
#[derive(Debug)]
struct Opaque;

#[celery::task(name = "rusty.opaque")]
fn opaque() -> TaskResult<Opaque> {
    Ok(Opaque)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = WorkerOptions::parse_over(Config::default());
    env_logger::Builder::new().filter_level(options.loglevel.filter()).init();
    let broker = std::env::var("CELERY_BROKER_URL")?;
    let app = Arc::new(CeleryBuilder::new("rusty", &broker).build().await?);
    let worker = celeriac::Worker::from_options("rusty", &options)?
        .task(task::<add>(&app))
        .task(task::<greet>(&app))
        .task(task::<bound>(&app))
        .task(task::<flaky>(&app))
        .task(task::<again>(&app))
        .task(task::<exhausted>(&app))
        .task(task::<broken>(&app))
        .task(task::<slow>(&app))
        .task(blocking(task::<block>(&app)))
        .task(task::<send>(&app))
        .task(task_without_result::<opaque>(&app));
    std::process::exit(worker.run().await?.exit_code());
}
