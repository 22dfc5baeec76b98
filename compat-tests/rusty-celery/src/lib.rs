//! The tasks of scripts/bench-worker, defined with rusty-celery.

// rusty-celery's macro makes a type of each function, under the function's name.
#![allow(non_local_definitions, non_upper_case_globals)]

use std::time::Duration;

use celery::prelude::*;
use serde_json::Value;

/// Does nothing.
#[celery::task(name = "bench.noop")]
pub async fn noop() {}

/// The sum of two numbers.
#[celery::task(name = "bench.add")]
pub async fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

/// What it was given.
#[celery::task(name = "bench.echo")]
pub async fn echo(payload: Value) -> TaskResult<Value> {
    Ok(payload)
}

/// Nothing, after that time.
#[celery::task(name = "bench.sleep")]
pub async fn sleep(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds.max(0.0))).await
}

/// The value of an environment variable, or a default.
pub fn variable(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}
