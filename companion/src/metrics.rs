//! The counters of the Redis hash `metrics:counters`, which all processes share.

use std::collections::BTreeMap;

use chrono::Duration;

use crate::redis_link::{RedisLink, RedisLinkError};

const KEY: &str = "metrics:counters";
const BUCKET: &str = "reminder_latency_bucket:";

/// The upper bounds of the latency histogram, in seconds, with the names of their counters. Buckets are cumulative, as
/// in Prometheus: a latency counts in every bucket whose bound it does not exceed.
pub const LATENCY_BUCKETS: [(&str, f64); 6] = [
    ("le_30s", 30.0),
    ("le_1m", 60.0),
    ("le_2m", 120.0),
    ("le_5m", 300.0),
    ("le_10m", 600.0),
    ("le_inf", f64::INFINITY),
];

/// The names of the plain counters.
pub const COUNTERS: [&str; 7] = [
    "reminder_scheduled",
    "reminder_sent",
    "reminder_canceled",
    "reminder_error",
    "worker_uptime_seconds",
    "reminder_latency_count",
    "reminder_latency_sum",
];

/// All counters at one moment; those never counted are 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// By name: those of [`COUNTERS`] and any other field of the hash.
    pub counters: BTreeMap<String, f64>,
    /// By the names of [`LATENCY_BUCKETS`].
    pub histogram: Vec<(&'static str, f64)>,
}

/// Writes and reads the counters.
#[derive(Clone)]
pub struct Metrics {
    redis: RedisLink,
}

impl Metrics {
    /// Counts in this Redis.
    pub fn new(redis: RedisLink) -> Self {
        Self { redis }
    }

    /// A reminder was made.
    pub async fn reminder_scheduled(&self) {
        self.count("reminder_scheduled").await;
    }

    /// A reminder was canceled.
    pub async fn reminder_canceled(&self) {
        self.count("reminder_canceled").await;
    }

    /// A reminder was given up.
    pub async fn reminder_error(&self) {
        self.count("reminder_error").await;
    }

    /// A reminder was delivered, so long after it was due.
    pub async fn reminder_sent(&self, latency: Duration) {
        let seconds = (latency.num_milliseconds().max(0) as f64) / 1000.0;
        let mut pipe = redis::pipe();
        pipe.atomic().hincr(KEY, "reminder_sent", 1).ignore();
        pipe.hincr(KEY, "reminder_latency_count", 1).ignore();
        pipe.hincr(KEY, "reminder_latency_sum", seconds).ignore();
        for (name, _) in LATENCY_BUCKETS.iter().filter(|(_, bound)| seconds <= *bound) {
            pipe.hincr(KEY, format!("{BUCKET}{name}"), 1).ignore();
        }
        let mut commands = self.redis.commands();
        warn_if_lost("reminder_sent", pipe.query_async(&mut commands).await);
    }

    /// How long the worker that calls has been running, in seconds.
    pub async fn worker_uptime(&self, seconds: u64) {
        let mut commands = self.redis.commands();
        let mut set = redis::cmd("HSET");
        set.arg(KEY).arg("worker_uptime_seconds").arg(seconds);
        warn_if_lost("worker_uptime_seconds", set.query_async(&mut commands).await);
    }

    /// All counters.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn snapshot(&self) -> Result<Snapshot, RedisLinkError> {
        let mut commands = self.redis.commands();
        let fields: BTreeMap<String, String> =
            redis::cmd("HGETALL").arg(KEY).query_async(&mut commands).await?;
        let number = |name: &str| fields.get(name).and_then(|text| text.parse().ok()).unwrap_or(0.0);
        let histogram =
            LATENCY_BUCKETS.iter().map(|(name, _)| (*name, number(&format!("{BUCKET}{name}")))).collect();
        let others = fields.keys().map(String::as_str).filter(|name| !name.starts_with(BUCKET));
        let counters =
            COUNTERS.into_iter().chain(others).map(|name| (name.to_owned(), number(name))).collect();
        Ok(Snapshot { counters, histogram })
    }

    async fn count(&self, name: &str) {
        let mut commands = self.redis.commands();
        let mut increment = redis::cmd("HINCRBY");
        increment.arg(KEY).arg(name).arg(1);
        warn_if_lost(name, increment.query_async(&mut commands).await);
    }
}

/// A count that is lost must not undo the work that was counted.
fn warn_if_lost(name: &str, result: Result<(), redis::RedisError>) {
    if let Err(error) = result {
        log::warn!(counter = name, error:% = error; "A count could not be added");
    }
}
