//! Tasks that compute something and return it.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use celeriac::message::Map;
use celeriac::prelude::*;

use super::python;

pub(super) fn register(worker: Worker) -> Worker {
    worker
        .task(ping)
        .task(identity)
        .task(add)
        .task(mul)
        .task(write_to_file_and_return_int)
        .task(add_not_typed)
        .task(add_ignore_result)
        .task(add_with_result)
        .task(delayed_sum)
        .task(delayed_sum_with_soft_guard)
        .task(tsum)
        .task(xsum)
        .task(print_unicode)
        .task(return_exception)
        .task(sleeping)
        .task(replaced_with_me)
        .task(add_pydantic)
        .task(add_pydantic_string_annotations)
}

/// Of `celery.contrib.testing.tasks`; the suite calls it to see that the worker is up.
#[celeriac::task(name = "celery.ping")]
async fn ping() -> &'static str {
    "pong"
}

#[celeriac::task(name = "t.integration.tasks.identity")]
pub(super) async fn identity(x: Value) -> Value {
    x
}

#[celeriac::task(name = "t.integration.tasks.add")]
pub(super) async fn add(x: Value, y: Value, z: Option<Value>) -> TaskResult<Value> {
    let sum = python::add(&x, &y)?;
    match z {
        Some(z) if python::is_true(&z) => python::add(&sum, &z),
        _ => Ok(sum),
    }
}

#[celeriac::task(name = "t.integration.tasks.mul")]
async fn mul(x: Value, y: Value) -> TaskResult<Value> {
    python::mul(&x, &y)
}

#[celeriac::task(name = "t.integration.tasks.write_to_file_and_return_int")]
fn write_to_file_and_return_int(file_name: String, i: i64) -> std::io::Result<i64> {
    let mut file = OpenOptions::new().append(true).create(true).open(file_name)?;
    writeln!(file, "{i}")?;
    Ok(i)
}

#[celeriac::task(name = "t.integration.tasks.add_not_typed")]
async fn add_not_typed(x: Value, y: Value) -> TaskResult<Value> {
    python::add(&x, &y)
}

#[celeriac::task(name = "t.integration.tasks.add_ignore_result", ignore_result)]
async fn add_ignore_result(x: Value, y: Value) -> TaskResult<Value> {
    python::add(&x, &y)
}

#[celeriac::task(name = "t.integration.tasks.add_with_result", ignore_result = false)]
async fn add_with_result(x: Value, y: Value) -> TaskResult<Value> {
    python::add(&x, &y)
}

#[celeriac::task(name = "t.integration.tasks.delayed_sum")]
async fn delayed_sum(numbers: Value, #[default(1.0)] pause_time: f64) -> TaskResult<Value> {
    tokio::time::sleep(Duration::from_secs_f64(pause_time)).await;
    python::sum(&numbers)
}

#[celeriac::task(name = "t.integration.tasks.delayed_sum_with_soft_guard")]
async fn delayed_sum_with_soft_guard(
    ctx: Context,
    numbers: Value,
    #[default(1.0)] pause_time: f64,
) -> TaskResult<Value> {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs_f64(pause_time)) => python::sum(&numbers),
        () = ctx.soft_limit().cancelled() => Ok(Value::Int(0)),
    }
}

#[celeriac::task(name = "t.integration.tasks.tsum")]
pub(super) async fn tsum(nums: Value) -> TaskResult<Value> {
    python::sum(&nums)
}

#[celeriac::task(name = "t.integration.tasks.xsum")]
async fn xsum(nums: Value) -> TaskResult<Value> {
    python::iter(&nums)?.iter().try_fold(Value::Int(0), |sum, item| match item {
        Value::List(_) | Value::Map(_) | Value::Str(_) => python::add(&sum, &python::sum(item)?),
        number => python::add(&sum, number),
    })
}

#[celeriac::task(name = "t.integration.tasks.print_unicode")]
async fn print_unicode(
    #[default("håå®ƒ valmuefrø".to_owned())] log_message: String,
    #[default("hiöäüß".to_owned())] print_message: String,
) {
    log::warn!("{log_message}");
    println!("{print_message}");
}

#[celeriac::task(name = "t.integration.tasks.return_exception")]
async fn return_exception(e: Value) -> (Value, bool) {
    (e, true)
}

#[celeriac::task(name = "t.integration.tasks.sleeping")]
async fn sleeping(i: f64, #[kwargs] _others: Map) {
    tokio::time::sleep(Duration::from_secs_f64(i)).await;
}

#[celeriac::task(name = "t.integration.tasks.replaced_with_me")]
pub(super) async fn replaced_with_me() -> bool {
    true
}

#[derive(serde::Deserialize, serde::Serialize)]
struct AddParameters {
    x: i64,
    y: i64,
}

#[derive(serde::Deserialize, serde::Serialize)]
struct Sum {
    result: i128,
}

impl AddParameters {
    fn sum(&self) -> Sum {
        Sum { result: i128::from(self.x) + i128::from(self.y) }
    }
}

#[celeriac::task(name = "t.integration.tasks.add_pydantic")]
async fn add_pydantic(data: AddParameters) -> Sum {
    data.sum()
}

#[celeriac::task(name = "t.integration.tasks.add_pydantic_string_annotations")]
async fn add_pydantic_string_annotations(data: AddParameters) -> Sum {
    data.sum()
}
