//! The worker that fault tests kill: its tasks leave a trace of every run in another Redis (`FAULTS_RECORD_URL`).
//!
//! `tests/faults/faults_app.py` has the same tasks for Celery's own worker.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use celeriac::config::Config;
use celeriac::prelude::*;
use compat_workers::{start, variable};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig};
use tokio::sync::OnceCell;

const PATIENCE: Duration = Duration::from_secs(60);

/// Where runs are recorded.
struct Record {
    client: redis::Client,
    connection: OnceCell<MultiplexedConnection>,
}

impl Record {
    /// Adds to a list, and returns how long that is now.
    async fn add(&self, list: &str, entry: i64) -> TaskResult<usize> {
        // What a test counts must not depend on how busy the machine is.
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connect = || self.client.get_multiplexed_async_connection_with_config(&patient);
        let mut connection = self.connection.get_or_try_init(connect).await?.clone();
        Ok(connection.rpush(list, entry).await?)
    }
}

async fn run(record: &Record, number: i64, seconds: f64) -> TaskResult<i64> {
    record.add("started", number).await?;
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    record.add("done", number).await?;
    Ok(number)
}

#[celeriac::task(name = "faults.late", acks_late = true)]
async fn late(record: State<Record>, number: i64, seconds: f64) -> TaskResult<i64> {
    run(&record, number, seconds).await
}

#[celeriac::task(name = "faults.early")]
async fn early(record: State<Record>, number: i64, seconds: f64) -> TaskResult<i64> {
    run(&record, number, seconds).await
}

/// Records how late it starts after `due`, in Unix time.
#[celeriac::task(name = "faults.due", acks_late = true)]
async fn due(record: State<Record>, number: i64, due: f64) -> TaskResult<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    record.add("late_ms", ((now - due) * 1000.0).round() as i64).await?;
    run(&record, number, 0.0).await
}

/// Returns that many bytes.
#[celeriac::task(name = "faults.large")]
async fn large(record: State<Record>, number: i64, bytes: usize) -> TaskResult<String> {
    record.add("started", number).await?;
    record.add("done", number).await?;
    Ok("x".repeat(bytes))
}

/// A step of a chain: the number before plus one.
#[celeriac::task(name = "faults.step", acks_late = true)]
async fn step(record: State<Record>, number: i64) -> TaskResult<i64> {
    record.add("steps", number).await?;
    Ok(number + 1)
}

/// The body of a chord.
#[celeriac::task(name = "faults.sum", acks_late = true)]
async fn sum(record: State<Record>, numbers: Vec<i64>) -> TaskResult<i64> {
    let sum = numbers.iter().sum();
    record.add("sums", sum).await?;
    Ok(sum)
}

/// Runs a third time before it is done.
#[celeriac::task(name = "faults.again", acks_late = true)]
async fn again(ctx: Context, record: State<Record>, number: i64) -> TaskResult<i64> {
    if ctx.request().retries() < 2 {
        return Err(ctx.retry().countdown(0.2).into());
    }
    run(&record, number, 0.0).await
}

/// Kills its worker.
#[celeriac::task(name = "faults.poison", acks_late = true)]
async fn poison(record: State<Record>, number: i64) -> TaskResult<()> {
    record.add("started", number).await?;
    std::process::abort()
}

#[celeriac::task(name = "faults.reject", acks_late = true)]
async fn reject(_number: i64) -> TaskResult<()> {
    Err(TaskError::Reject { reason: "not today".to_owned(), requeue: false })
}

#[celeriac::task(name = "faults.fail", acks_late = true)]
async fn fail(record: State<Record>, number: i64) -> TaskResult<()> {
    record.add("started", number).await?;
    Err(TaskError::unexpected("as planned"))
}

/// An errback that is called in the worker's process; the first call for a number may never end.
#[celeriac::task(name = "faults.errback")]
async fn errback(
    record: State<Record>,
    _failed: Value,
    _error: Value,
    _traceback: Value,
    number: i64,
    first_hangs: bool,
) -> TaskResult<()> {
    let calls = record.add(&format!("errback.{number}"), number).await?;
    if first_hangs && calls == 1 {
        std::future::pending().await
    }
    record.add("errbacks", number).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = start(Config::default());
    let url = variable("FAULTS_RECORD_URL", "redis://127.0.0.1:6379/1");
    let record = Record {
        client: redis::Client::open(url).context("FAULTS_RECORD_URL")?,
        connection: OnceCell::new(),
    };
    let worker = Worker::from_options("faults", &options)?
        .state(record)
        .task(late)
        .task(early)
        .task(due)
        .task(large)
        .task(step)
        .task(sum)
        .task(again)
        .task(poison)
        .task(reject)
        .task(fail)
        .task(errback);
    std::process::exit(worker.run().await?.exit_code());
}
