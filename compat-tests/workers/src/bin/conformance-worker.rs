//! The worker with the tasks of Celery's own integration suite, and the settings of the suite's conftest.
//!
//! Broker and backend come from `TEST_BROKER` and `TEST_BACKEND`; the tasks leave traces in the Redis at `REDIS_HOST`
//! and `REDIS_PORT`.

use anyhow::Context as _;
use celeriac::Worker;
use celeriac::config::Config;
use compat_workers::conformance::{Echo, with_suite};
use compat_workers::{start, variable};

/// Those of the suite's conftest, and of the test app that it is made of.
const SETTINGS: [(&str, &str); 9] = [
    ("result_extended", "true"),
    ("task_create_missing_queues", "false"),
    ("worker_hijack_root_logger", "false"),
    ("worker_log_color", "false"),
    ("accept_content", "json"),
    ("enable_utc", "true"),
    ("timezone", "UTC"),
    ("broker_heartbeat", "0"),
    ("worker_concurrency", "1"),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut config = Config::default();
    config.set("broker_url", &variable("TEST_BROKER", "redis://127.0.0.1:6379/0"))?;
    config.set("result_backend", &variable("TEST_BACKEND", "redis://127.0.0.1:6379/0"))?;
    for (setting, value) in SETTINGS {
        config.set(setting, value)?;
    }
    let options = start(config);
    let (host, port) = (variable("REDIS_HOST", "localhost"), variable("REDIS_PORT", "6379"));
    let echo = Echo::at(&host, &port).with_context(|| format!("REDIS_HOST={host}, REDIS_PORT={port}"))?;
    let worker = with_suite(Worker::from_options("celery.tests", &options)?.state(echo));
    std::process::exit(worker.run().await?.exit_code());
}
