//! The counters of the service.
//!
//! The database counts what becomes of reminders, in triggers, so that nobody has to call for it and an outage of Redis loses
//! nothing. The Redis hash `metrics:counters`, in which the Python service counted and others may read, follows; where it was
//! ahead, its counts are taken over once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    redis_link::{RedisLink, RedisLinkError},
    store::{Counts, Store, StoreError},
};

const KEY: &str = "metrics:counters";
/// Ends when no worker has told its uptime for a while.
const UPTIME_KEY: &str = "metrics:worker_uptime_seconds";
const UPTIME: &str = "worker_uptime_seconds";
const UPTIME_EXPIRES: Duration = Duration::from_secs(30);
pub(crate) const BUCKET: &str = "reminder_latency_bucket:";

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
    UPTIME,
    "reminder_latency_count",
    "reminder_latency_sum",
];

/// All counters at one moment; those never counted are 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// By name: those of [`COUNTERS`], and while Redis answers any other field of the hash.
    pub counters: BTreeMap<String, f64>,
    /// By the names of [`LATENCY_BUCKETS`].
    pub histogram: Vec<(&'static str, f64)>,
}

/// Neither the database nor Redis tells the counters.
#[derive(Debug, thiserror::Error)]
#[error("{store}; {redis}")]
pub struct MetricsError {
    store: StoreError,
    redis: RedisLinkError,
}

/// Reads the counters, and keeps the Redis hash up to date.
#[derive(Clone)]
pub struct Metrics {
    store: Store,
    redis: RedisLink,
    /// The last snapshot, for when nobody answers.
    last: Arc<Mutex<Option<Snapshot>>>,
}

/// What Redis holds.
struct Hash {
    fields: BTreeMap<String, f64>,
    uptime: f64,
}

/// Raises fields of a hash to the given values; none is ever lowered, since another process may have written later counts.
///
/// Arguments: pairs of a field and its value.
const RAISE: &str = r"
for i = 1, #ARGV, 2 do
    local before = tonumber(redis.call('HGET', KEYS[1], ARGV[i]))
    if not before or before < tonumber(ARGV[i + 1]) then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
";

impl Metrics {
    /// Counts in this database, and in this Redis.
    pub fn new(store: Store, redis: RedisLink) -> Self {
        Self { store, redis, last: Arc::default() }
    }

    /// Tells how long the worker that calls has been running, in seconds, and sums up what was counted. Failures are logged:
    /// the next call makes up for them.
    pub async fn tend(&self, uptime_seconds: u64) {
        let mut tell = redis::pipe();
        tell.cmd("HSET").arg(KEY).arg(UPTIME).arg(uptime_seconds).ignore();
        tell.cmd("SET").arg(UPTIME_KEY).arg(uptime_seconds).arg("EX").arg(UPTIME_EXPIRES.as_secs()).ignore();
        let told: Result<(), redis::RedisError> = tell.query_async(&mut self.redis.commands()).await;
        if let Err(error) = told {
            log::debug!(error:% = error; "The worker's uptime could not be told");
        }
        if let Err(error) = self.store.sum_up_events().await {
            log::debug!(error:% = error; "Counts could not be summed up");
        }
        if let Err(error) = self.snapshot().await {
            log::debug!(error:% = error; "The counters cannot be read");
        }
    }

    /// Returns all counters: as the database has them, else as Redis has them, else as they were when last read.
    ///
    /// # Errors
    /// [`MetricsError`] when neither answers and none were read before.
    pub async fn snapshot(&self) -> Result<Snapshot, MetricsError> {
        let (counts, hash) = tokio::join!(self.counts(), self.hash());
        let snapshot = match (counts, hash) {
            (Ok((counts, is_complete)), Ok(hash)) => self.reconciled(counts, is_complete, hash).await,
            (Ok((counts, _)), Err(_)) => snapshot(&counts, 0.0),
            (Err(_), Ok(hash)) => snapshot(&hash.fields, hash.uptime),
            (Err(store), Err(redis)) => {
                return self.last().clone().ok_or(MetricsError { store, redis });
            }
        };
        *self.last() = Some(snapshot.clone());
        Ok(snapshot)
    }

    async fn counts(&self) -> Result<(Counts, bool), StoreError> {
        self.store.sum_up_events().await?;
        self.store.counts().await
    }

    /// Has each of the two take over what only the other knows.
    async fn reconciled(&self, mut counts: Counts, is_complete: bool, hash: Hash) -> Snapshot {
        if !is_complete {
            let is_count = |name: &str| name.starts_with("reminder_");
            let left: Counts = hash
                .fields
                .iter()
                .filter(|(name, _)| is_count(name))
                .map(|(name, value)| (name.clone(), value - counts.get(name).copied().unwrap_or(0.0)))
                .filter(|(_, ahead)| *ahead > 0.0)
                .collect();
            match self.store.take_over_counts(&left).await {
                Ok(()) => counts = self.store.counts().await.map_or(counts, |(counts, _)| counts),
                Err(error) => log::warn!(error:% = error; "The counts of before could not be taken over"),
            }
        }
        let raise = redis::Script::new(RAISE);
        let mut raise = raise.key(KEY);
        for (name, value) in &counts {
            // Without a fraction where there is none, so that an earlier release can go on counting.
            raise.arg(name).arg(value.to_string());
        }
        let raised: Result<(), redis::RedisError> = raise.invoke_async(&mut self.redis.commands()).await;
        if let Err(error) = raised {
            log::debug!(error:% = error; "The counters in Redis could not be brought up to date");
        }
        let others = hash.fields.into_iter().filter(|(name, _)| !name.starts_with("reminder_"));
        counts.extend(others);
        snapshot(&counts, hash.uptime)
    }

    async fn hash(&self) -> Result<Hash, RedisLinkError> {
        let mut read = redis::pipe();
        read.cmd("HGETALL").arg(KEY).cmd("GET").arg(UPTIME_KEY);
        let (fields, uptime): (BTreeMap<String, String>, Option<f64>) =
            read.query_async(&mut self.redis.commands()).await?;
        let number = |(name, text): (String, String)| (name, text.parse().unwrap_or(0.0));
        Ok(Hash { fields: fields.into_iter().map(number).collect(), uptime: uptime.unwrap_or(0.0) })
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Snapshot>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn snapshot(counts: &Counts, uptime: f64) -> Snapshot {
    let number = |name: &str| counts.get(name).copied().unwrap_or(0.0);
    let histogram =
        LATENCY_BUCKETS.iter().map(|(name, _)| (*name, number(&format!("{BUCKET}{name}")))).collect();
    let others = counts.keys().map(String::as_str).filter(|name| !name.starts_with(BUCKET));
    let mut counters: BTreeMap<String, f64> =
        COUNTERS.into_iter().chain(others).map(|name| (name.to_owned(), number(name))).collect();
    counters.insert(UPTIME.to_owned(), uptime);
    Snapshot { counters, histogram }
}
