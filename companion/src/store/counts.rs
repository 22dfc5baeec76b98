//! Counts of what becomes of reminders.
//!
//! Triggers write a row of `reminder_events` with each change of a status. These rows are summed up into `counters` now and
//! then; a count is the sum of both, so that it is right at any moment.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, FromRow};

use super::{BeginWrite, Pool, Store, StoreError, on_pool};
use crate::metrics::LATENCY_BUCKETS;

/// A count by its name.
pub(crate) type Counts = BTreeMap<String, f64>;

#[derive(FromRow)]
struct Count {
    name: String,
    value: f64,
}

/// How old the oldest reminders are that should have gone out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overdue {
    /// Seconds by which the oldest reminder that nobody has tried to deliver is late; 0 when there is none.
    pub waiting_seconds: i64,
    /// The same of those that wait for another attempt after one that failed.
    pub retrying_seconds: i64,
}

/// Events that are summed up in one statement.
const BATCH: u32 = 20_000;
/// Stands in `counters` once the counts of an earlier release were taken over.
const TAKEN_OVER: &str = "taken_over";

const HAS_EVENTS: &str = "SELECT EXISTS (SELECT 1 FROM reminder_events)";
const ADD: &str = "INSERT INTO counters (name, value) VALUES ($1, $2) \
    ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value";
const CLAIM_TAKE_OVER: &str =
    "INSERT INTO counters (name, value) VALUES ($1, 1) ON CONFLICT (name) DO NOTHING";
const OLDEST: &str = "SELECT min(CASE WHEN delivery_attempts = 0 THEN utc_ts END), \
    min(CASE WHEN delivery_attempts > 0 THEN utc_ts END) \
    FROM reminders WHERE status = 'scheduled' AND utc_ts <= $1";

/// The sums of the events in a table, by the names of the counters.
fn sums(events: &str) -> String {
    let number = "CAST(count(*) AS double precision)";
    let mut sums = vec![
        format!("SELECT 'reminder_' || event AS name, {number} AS value FROM {events} GROUP BY event"),
        format!("SELECT 'reminder_latency_sum', coalesce(sum(latency_seconds), 0.0) FROM {events}"),
    ];
    let latencies = |name: &str, condition: &str| {
        format!("SELECT '{name}', {number} FROM {events} WHERE latency_seconds IS NOT NULL{condition}")
    };
    sums.push(latencies("reminder_latency_count", ""));
    for (name, bound) in LATENCY_BUCKETS {
        let condition =
            if bound.is_finite() { format!(" AND latency_seconds <= {bound}") } else { String::new() };
        sums.push(latencies(&format!("{}{name}", crate::metrics::BUCKET), &condition));
    }
    sums.join(" UNION ALL ")
}

impl Store {
    /// Returns the counts of all time, and whether those of an earlier release are among them.
    pub(crate) async fn counts(&self) -> Result<(Counts, bool), StoreError> {
        let all = format!(
            "SELECT name, CAST(sum(value) AS double precision) AS value \
             FROM (SELECT name, value FROM counters UNION ALL {}) AS parts GROUP BY name",
            sums("reminder_events")
        );
        let counts: Vec<Count> =
            on_pool!(self, pool => sqlx::query_as(AssertSqlSafe(all)).fetch_all(pool).await)?;
        let mut counts: Counts = counts.into_iter().map(|count| (count.name, count.value)).collect();
        let taken_over = counts.remove(TAKEN_OVER).is_some();
        Ok((counts, taken_over))
    }

    /// Sums up events, so that counting them stays cheap.
    pub(crate) async fn sum_up_events(&self) -> Result<(), StoreError> {
        while on_pool!(self, pool => sqlx::query_scalar::<_, bool>(HAS_EVENTS).fetch_one(pool).await)? {
            match &self.pool {
                Pool::Postgres(link) => {
                    let sql = format!(
                        "WITH taken AS (DELETE FROM reminder_events WHERE id IN \
                            (SELECT id FROM reminder_events ORDER BY id LIMIT {BATCH} FOR UPDATE SKIP LOCKED) \
                            RETURNING event, latency_seconds) \
                         INSERT INTO counters (name, value) SELECT name, value FROM ({}) AS sums ORDER BY name \
                         ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value",
                        sums("taken")
                    );
                    let summed = sqlx::query(AssertSqlSafe(sql)).execute(link).await?.rows_affected();
                    if summed == 0 {
                        return Ok(());
                    }
                }
                // One writer at a time: what is summed up is what is removed.
                Pool::Sqlite(pool) => {
                    let sql = format!(
                        "INSERT INTO counters (name, value) SELECT name, value FROM ({}) AS sums WHERE true \
                         ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value",
                        sums("reminder_events")
                    );
                    let mut tx = pool.begin_write().await?;
                    sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await?;
                    sqlx::query("DELETE FROM reminder_events").execute(&mut *tx).await?;
                    tx.commit().await?;
                }
            }
        }
        Ok(())
    }

    /// Adds the counts that an earlier release has left elsewhere; once, however often it is called.
    pub(crate) async fn take_over_counts(&self, left: &Counts) -> Result<(), StoreError> {
        on_pool!(self, pool => {
            let mut tx = pool.begin_write().await?;
            let claim = sqlx::query(CLAIM_TAKE_OVER).bind(TAKEN_OVER).execute(&mut *tx).await?;
            if claim.rows_affected() == 1 {
                for (name, value) in left {
                    sqlx::query(ADD).bind(name.as_str()).bind(*value).execute(&mut *tx).await?;
                }
            }
            tx.commit().await?;
        });
        Ok(())
    }

    /// Tells by how much the oldest reminders are late, by the database's clock.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available.
    pub async fn overdue(&self) -> Result<Overdue, StoreError> {
        type Oldest = Option<chrono::DateTime<chrono::Utc>>;
        let now = self.now().await?;
        let (waiting, retrying): (Oldest, Oldest) =
            on_pool!(self, pool => sqlx::query_as(OLDEST).bind(now).fetch_one(pool).await)?;
        let seconds = |oldest: Oldest| oldest.map_or(0, |oldest| (now - oldest).num_seconds().max(0));
        Ok(Overdue { waiting_seconds: seconds(waiting), retrying_seconds: seconds(retrying) })
    }
}
