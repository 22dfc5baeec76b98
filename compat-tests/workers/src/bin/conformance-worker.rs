//! The worker with the tasks of Celery's own integration suite, and the settings of the suite's conftest.
//!
//! Broker and backend come from `TEST_BROKER` and `TEST_BACKEND`; the tasks leave traces in the Redis at `REDIS_HOST`
//! and `REDIS_PORT`.

use anyhow::Context as _;
use celeriac::Worker;
use celeriac::config::Config;
use compat_workers::conformance::{Echo, with_tasks};
use compat_workers::{start, variable};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut config = Config::default();
    config.set("broker_url", &variable("TEST_BROKER", "redis://127.0.0.1:6379/0"))?;
    config.set("result_backend", &variable("TEST_BACKEND", "redis://127.0.0.1:6379/0"))?;
    config.set("result_extended", "true")?;
    config.set("task_create_missing_queues", "false")?;
    config.set("worker_concurrency", "1")?;
    let options = start(config);
    let (host, port) = (variable("REDIS_HOST", "localhost"), variable("REDIS_PORT", "6379"));
    let echo = Echo::at(&host, &port).with_context(|| format!("REDIS_HOST={host}, REDIS_PORT={port}"))?;
    let worker = with_tasks(Worker::from_options("celery.tests", &options)?.state(echo));
    std::process::exit(worker.run().await?.exit_code());
}
