//! The worker that benchmarks measure: `bench.noop`, `bench.add`, `bench.echo`, `bench.sleep`, `bench.fail`.
//!
//! Broker, backend and queue come from `BENCH_BROKER_URL`, `BENCH_BACKEND_URL` and `BENCH_QUEUE`.

use std::time::Duration;

use celeriac::config::Config;
use celeriac::prelude::*;
use compat_workers::{start, variable};

#[celeriac::task(name = "bench.noop")]
async fn noop() {}

#[celeriac::task(name = "bench.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[celeriac::task(name = "bench.echo")]
async fn echo(payload: Value) -> Value {
    payload
}

#[celeriac::task(name = "bench.sleep")]
async fn sleep(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds.max(0.0))).await;
}

#[celeriac::task(name = "bench.fail")]
async fn fail() -> TaskResult<()> {
    Err(TaskError::builtin("ValueError", "bench"))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut config = Config::default();
    config.set("broker_url", &variable("BENCH_BROKER_URL", "redis://127.0.0.1:6379/0"))?;
    if let Ok(backend) = std::env::var("BENCH_BACKEND_URL") {
        config.set("result_backend", &backend)?;
    }
    config.set("task_default_queue", &variable("BENCH_QUEUE", "celery"))?;
    config.set("worker_concurrency", "2000")?;
    let options = start(config);
    let worker =
        Worker::from_options("bench", &options)?.task(noop).task(add).task(echo).task(sleep).task(fail);
    std::process::exit(worker.run().await?.exit_code());
}
