use std::fmt::Write;

use chrono::{SecondsFormat, Utc};
use companion::metrics::{LATENCY_BUCKETS, Snapshot};
use serde_json::{Map, Value, json};
use warp::{Filter, Reply, filters::BoxedFilter, http::header, reply::Response};

use super::{Answer, handled};
use crate::{error::ApiError, request::Request, state::State};

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const STATUSES: [&str; 4] = ["scheduled", "sent", "canceled", "error"];

pub(super) fn routes(state: &State) -> BoxedFilter<(Response,)> {
    let basic = handled(warp::path!("metrics" / "basic").and(super::get()).boxed(), state, basic);
    let prometheus = handled(warp::path!("metrics").and(super::get()).boxed(), state, prometheus);
    basic.or(prometheus).unify().boxed()
}

async fn basic(request: Request) -> Answer {
    let snapshot = request.state.companion.metrics.snapshot().await.map_err(|error| {
        log::error!(request_id = request.id, error:% = error; "The counters cannot be read");
        ApiError::Celery(crate::celery::CeleryError::Unavailable(error.to_string()))
    })?;
    let counters: Map<String, Value> =
        snapshot.counters.into_iter().map(|(name, value)| (name, number(value))).collect();
    let histogram: Map<String, Value> =
        snapshot.histogram.into_iter().map(|(name, value)| (name.to_owned(), number(value))).collect();
    let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::AutoSi, false);
    super::json(&json!({ "timestamp": timestamp, "counters": counters, "histogram": histogram }))
}

/// A count is written without a fraction.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

/// The text form of Prometheus. The counters of reminders are those of all processes, kept in Redis; the metrics of
/// HTTP are those of this process. While Redis is away only the latter are there.
async fn prometheus(request: Request) -> Answer {
    let state = &request.state;
    let (snapshot, lengths, workers) = tokio::join!(
        state.companion.metrics.snapshot(),
        state.celery.queue_lengths(),
        state.celery.ping_workers(),
    );
    let mut text = String::new();
    let up = i32::from(snapshot.is_ok());
    family(&mut text, "ai_redis_up", "gauge", "Whether the Redis of the counters answers.", [("", up)]);
    match snapshot {
        Ok(snapshot) => reminders(&mut text, &snapshot),
        Err(error) => log::warn!(request_id = request.id, error:% = error; "The counters cannot be read"),
    }
    if let Ok(lengths) = lengths {
        let lengths = lengths.iter().map(|(queue, length)| (format!("{{queue_name=\"{queue}\"}}"), *length));
        family(&mut text, "celery_queue_length", "gauge", "Messages that wait in a queue.", lengths);
    }
    if let Ok(workers) = workers {
        family(&mut text, "celery_workers", "gauge", "Workers that answered a ping.", [("", workers.len())]);
    }
    text.push_str(&state.http.text());
    Ok(warp::reply::with_header(text, header::CONTENT_TYPE, PROMETHEUS_TEXT).into_response())
}

fn reminders(text: &mut String, snapshot: &Snapshot) {
    let counter = |name: &str| snapshot.counters.get(name).copied().unwrap_or(0.0);
    let totals =
        STATUSES.map(|status| (format!("{{status=\"{status}\"}}"), counter(&format!("reminder_{status}"))));
    family(text, "ai_reminder_total", "counter", "Reminders that came to have a status.", totals);
    let uptime = counter("worker_uptime_seconds");
    let help = "How long the worker that reported last has been running.";
    family(text, "ai_worker_uptime_seconds", "gauge", help, [("", uptime)]);

    let bound = |seconds: f64| if seconds.is_finite() { seconds.to_string() } else { "+Inf".to_owned() };
    let buckets = LATENCY_BUCKETS.iter().zip(&snapshot.histogram);
    let buckets =
        buckets.map(|((_, seconds), (_, count))| (format!("_bucket{{le=\"{}\"}}", bound(*seconds)), *count));
    let ends = [
        ("_sum".to_owned(), counter("reminder_latency_sum")),
        ("_count".to_owned(), counter("reminder_latency_count")),
    ];
    let help = "Seconds between the time for which a reminder was asked and its delivery.";
    family(text, "ai_reminder_latency_seconds", "histogram", help, buckets.chain(ends));
}

fn family<S: AsRef<str>, V: std::fmt::Display>(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    samples: impl IntoIterator<Item = (S, V)>,
) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (suffix, value) in samples {
        let _ = writeln!(text, "{name}{} {value}", suffix.as_ref());
    }
}
