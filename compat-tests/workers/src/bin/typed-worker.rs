//! The worker whose tasks take and return types of all kinds.

use std::collections::HashMap;

use celeriac::config::Config;
use celeriac::prelude::*;
use celeriac::schema::JsonSchema;
use chrono::{DateTime, Utc};
use compat_workers::start;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "celeriac::schema::schemars")]
#[serde(deny_unknown_fields)]
struct Size {
    width: u32,
    height: u32,
    unit: Option<Unit>,
}

#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "celeriac::schema::schemars")]
#[serde(rename_all = "lowercase")]
enum Unit {
    #[default]
    Pixel,
    Percent,
}

/// The sum.
///
/// Of two numbers.
#[celeriac::task(name = "typed.add", acks_late, queue = "celery")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[celeriac::task(name = "typed.resize")]
async fn resize(id: Uuid, size: Size, #[default(80)] quality: u8, label: Option<String>) -> String {
    let label = label.unwrap_or_default();
    format!("{id} {}x{} {:?} {quality} {label}", size.width, size.height, size.unit.unwrap_or_default())
}

#[celeriac::task(name = "typed.notify")]
async fn notify(
    at: DateTime<Utc>,
    #[args] names: Vec<String>,
    #[kwargs] weights: HashMap<String, f64>,
) -> (String, usize, f64) {
    (at.to_rfc3339(), names.len(), weights.values().sum())
}

/// Leaves a mark that it ran.
#[celeriac::task(name = "typed.write")]
fn write(path: String, size: Size) -> TaskResult<Size> {
    std::fs::write(path, "ran")?;
    Ok(size)
}

#[celeriac::task(name = "typed.anything")]
async fn anything(value: Value) -> Value {
    value
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = start(Config::default());
    let worker = Worker::from_options("typed", &options)?;
    let worker = worker.task(add).task(resize).task(notify).task(write).task(anything);
    std::process::exit(worker.run().await?.exit_code());
}
