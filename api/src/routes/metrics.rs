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

/// The counters: of the database, else of Redis, else as last read.
async fn basic(request: Request) -> Answer {
    let snapshot = request.state.counters().await.ok_or(ApiError::NoCounters)?;
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

/// The text form of Prometheus. All but the metrics of HTTP and the clock are those of the whole service: every replica tells the
/// same, so queries take the `max`. What cannot be read is left out; the gauges `ai_..._up` are always there.
async fn prometheus(request: Request) -> Answer {
    let state = &request.state;
    let (health, figures) = tokio::join!(state.health(), state.figures());
    let panicked = || ApiError::Internal("the look at the parts panicked".to_owned());
    let (health, figures) = (health.ok_or_else(panicked)?, figures.ok_or_else(panicked)?);
    let mut text = String::new();
    for (name, help, part) in [
        ("ai_database_up", "Whether the database answers and is migrated.", &health.db),
        ("ai_redis_up", "Whether Redis answers.", &health.redis),
        ("ai_beat_up", "Whether a beat holds the lock of the schedule.", &health.beat),
    ] {
        family(&mut text, name, "gauge", help, [("", i32::from(part.is_ok()))]);
    }
    if let Some(workers) = health.workers {
        family(&mut text, "celery_workers", "gauge", "Workers that answered a ping.", [("", workers)]);
    }
    if let Some(snapshot) = &figures.counters {
        reminders(&mut text, snapshot);
    }
    if let Some(overdue) = figures.overdue {
        let help = "By how many seconds the oldest reminder is late that is waiting for its delivery, or for another attempt.";
        let ages = [
            ("{state=\"waiting\"}", overdue.waiting_seconds),
            ("{state=\"retrying\"}", overdue.retrying_seconds),
        ];
        family(&mut text, "ai_reminder_oldest_overdue_seconds", "gauge", help, ages);
    }
    if let Some(lengths) = &figures.queues {
        let lengths = lengths.iter().map(|(queue, length)| (format!("{{queue_name=\"{queue}\"}}"), *length));
        family(&mut text, "celery_queue_length", "gauge", "Messages that wait in a queue.", lengths);
    }
    if let Some(skew) = state.companion.store.clock_skew() {
        let help = "How far the database's clock is ahead of this host's.";
        let seconds = skew.as_seconds_f64();
        family(&mut text, "ai_database_clock_skew_seconds", "gauge", help, [("", seconds)]);
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
    let help = "How long the worker that reported last has been running; 0 without a worker.";
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
