//! The worker that does to tasks what Celery's does: `tests/semantics/semantics_app.py` has the same ones for that.

use std::time::Duration;

use celeriac::config::Config;
use celeriac::control::Commands;
use celeriac::message::Map;
use celeriac::prelude::*;
use chrono::Utc;
use compat_workers::start;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;

#[celeriac::task(name = "sem.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[celeriac::task(name = "sem.echo")]
async fn echo(value: Value) -> Value {
    value
}

#[celeriac::task(name = "sem.give_up", acks_late, acks_on_failure_or_timeout = false)]
async fn give_up() -> TaskResult<()> {
    Err(TaskError::builtin("ValueError", "no"))
}

#[celeriac::task(name = "sem.slow_once", acks_late, acks_on_failure_or_timeout = false, time_limit = 1)]
async fn slow_once(ctx: Context) -> &'static str {
    if !ctx.request().redelivered() {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    "second time"
}

#[celeriac::task(name = "sem.tidies", soft_time_limit = 1)]
async fn tidies(ctx: Context) -> &'static str {
    ctx.soft_limit().cancelled().await;
    "tidied"
}

/// The same on a blocking thread.
#[celeriac::task(name = "sem.tidies_blocking", soft_time_limit = 1)]
fn tidies_blocking(ctx: Context) -> &'static str {
    while !ctx.soft_limit().is_cancelled() {
        std::thread::sleep(Duration::from_millis(10));
    }
    "tidied"
}

#[celeriac::task(name = "sem.retry", max_retries = 3, default_retry_delay = 1)]
async fn retry(ctx: Context, how: String, word: Option<String>) -> TaskResult<Value> {
    let first = ctx.request().retries() == 0;
    let retry = match how.as_str() {
        "countdown" if first => ctx.retry().countdown(0.2),
        "eta" if first => {
            let eta = Utc::now() + Duration::from_millis(300);
            ctx.retry().eta(eta).exc(TaskError::builtin("KeyError", "again"))
        }
        "args" if first => ctx.retry().args(["args", "second"]).countdown(0),
        "kwargs" if first => {
            let kwargs = [("word".to_owned(), "third".into())].into();
            ctx.retry().args(["kwargs"]).kwargs(kwargs).countdown(0)
        }
        "exc" => ctx.retry().exc(TaskError::builtin("ValueError", "mine")).countdown(0).max_retries(1),
        "exceeded" => ctx.retry().countdown(0).max_retries(1),
        "often" if ctx.request().retries() < 5 => ctx.retry().countdown(0).max_retries(10),
        "elsewhere" if first => ctx.retry().countdown(0).option("queue", "keyed").option("priority", 9),
        _ => {
            let request = ctx.request();
            return Ok([
                Value::from(request.retries()),
                word.unwrap_or_else(|| "first".to_owned()).into(),
                request.delivery_info().routing_key.as_str().into(),
                request.properties.priority.map(u32::from).into(),
            ]
            .into_iter()
            .collect());
        }
    };
    Err(retry.into())
}

#[celeriac::task(
    name = "sem.autoretry",
    max_retries = 2,
    retry_backoff = 1,
    retry_jitter = false,
    autoretry_for = ["LookupError"],
    dont_autoretry_for = ["KeyError"]
)]
async fn autoretry(ctx: Context, kind: String, #[default(99)] good_at: u32) -> TaskResult<u32> {
    match ctx.request().retries() {
        retries if retries < good_at => Err(TaskError::builtin(&kind, "at fault")),
        retries => Ok(retries),
    }
}

#[celeriac::task(name = "sem.tracked", track_started)]
async fn tracked() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[celeriac::task(name = "sem.quiet", ignore_result, store_errors_even_if_ignored)]
async fn quiet(fails: bool) -> TaskResult<&'static str> {
    if fails {
        return Err(TaskError::builtin("ValueError", "loud"));
    }
    Ok("nobody sees this")
}

#[celeriac::task(name = "sem.where")]
async fn where_from(ctx: Context) -> (String, String) {
    let info = ctx.request().delivery_info();
    (info.exchange.clone(), info.routing_key.clone())
}

/// A list in the broker's database.
struct Record(MultiplexedConnection);

impl Record {
    async fn add(&self, list: &str, entry: &str) -> TaskResult<()> {
        Ok(self.0.clone().rpush::<_, _, ()>(list, entry).await?)
    }
}

#[celeriac::task(name = "sem.told", ignore_result)]
async fn told(record: State<Record>, text: String) -> TaskResult<()> {
    record.add("told", &text).await
}

#[celeriac::task(name = "sem.early")]
async fn early(record: State<Record>, seconds: f64) -> TaskResult<()> {
    record.add("started", "early").await?;
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    Ok(())
}

#[celeriac::task(name = "sem.late", acks_late)]
async fn late(record: State<Record>, seconds: f64) -> TaskResult<()> {
    record.add("started", "late").await?;
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    Ok(())
}

#[celeriac::task(name = "sem.reject", acks_late)]
async fn reject() -> TaskResult<()> {
    Err(TaskError::Reject { reason: "not today".to_owned(), requeue: false })
}

#[celeriac::task(name = "sem.gate")]
async fn gate(record: State<Record>) -> TaskResult<()> {
    while !record.0.clone().exists::<_, bool>("gate").await? {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Tells what it is told.
#[celeriac::task(name = "sem.errback")]
async fn errback(
    record: State<Record>,
    failed: Map,
    error: Map,
    traceback: Option<String>,
) -> TaskResult<()> {
    let text = |map: &Map, key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let message = match error.get("exc_message") {
        Some(Value::List(args)) => args.first().and_then(Value::as_str).unwrap_or_default(),
        _ => "",
    };
    let (id, task, exception) = (text(&failed, "id"), text(&failed, "task"), text(&error, "exc_type"));
    let known = if traceback.is_none() { "without" } else { "with" };
    record.add("errbacks", &format!("{id} {task} {exception}: {message}, {known} traceback")).await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = start(Config::default());
    let url = std::env::var("CELERY_BROKER_URL")?;
    let record = Record(redis::Client::open(url)?.get_multiplexed_async_connection().await?);
    let worker = Worker::from_options("semantics", &options)?;
    let metrics = worker.metrics();
    let worker = worker
        .commands(Commands::default().with("metrics", move |_| {
            let text = metrics.text();
            async move { Ok(Value::Str(text)) }
        }))
        .state(record)
        .task(add)
        .task(echo)
        .task(give_up)
        .task(slow_once)
        .task(tidies)
        .task(tidies_blocking)
        .task(retry)
        .task(autoretry)
        .task(tracked)
        .task(quiet)
        .task(where_from)
        .task(told)
        .task(early)
        .task(late)
        .task(reject)
        .task(gate)
        .task(errback);
    match worker.run().await {
        Ok(stopped) => std::process::exit(stopped.exit_code()),
        Err(error) => anyhow::bail!(error),
    }
}
