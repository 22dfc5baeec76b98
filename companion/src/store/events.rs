use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::{BeginWrite, OnceKey, Store, StoreError, idempotency::KEEP, on_pool};

/// One turn of a conversation, as kept in `sessions.transcript`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Turn {
    /// `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A row of `metrics_daily`.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct DailyMetrics {
    /// The day, in UTC.
    pub metrics_date: NaiveDate,
    /// Users who signed up that day.
    pub cohort_size: i32,
    /// How many of them were active a day later.
    pub retained_day1: i32,
    /// How many of them were active seven days later.
    pub retained_day7: i32,
    /// Users who did anything that day.
    pub active_users: i32,
    /// `retained_day1 / cohort_size`; nothing before that day is over or when nobody signed up.
    pub retention_rate_day1: Option<f64>,
    /// `retained_day7 / cohort_size`; nothing before that day is over or when nobody signed up.
    pub retention_rate_day7: Option<f64>,
}

const INSERT_EVENT: &str = "INSERT INTO metrics_events (id, user_id, event_name, properties, created_at) VALUES ($1, $2, $3, $4, $5)";
const INSERT_SESSION: &str =
    "INSERT INTO sessions (id, user_id, transcript, tokens_used, created_at) VALUES ($1, $2, $3, $4, $5)";
const LAST_SESSIONS: &str =
    "SELECT transcript FROM sessions WHERE user_id = $1 ORDER BY created_at DESC LIMIT $2";
const COHORT_SIZE: &str = "SELECT count(*) FROM users WHERE created_at >= $1 AND created_at < $2";
const ACTIVE_USERS: &str =
    "SELECT count(DISTINCT user_id) FROM metrics_events WHERE created_at >= $1 AND created_at < $2";
const RETAINED: &str = "SELECT count(*) FROM users WHERE created_at >= $1 AND created_at < $2 AND EXISTS \
    (SELECT 1 FROM metrics_events WHERE metrics_events.user_id = users.id \
     AND metrics_events.created_at >= $3 AND metrics_events.created_at < $4)";
const UPSERT_DAILY: &str = "INSERT INTO metrics_daily \
    (id, metrics_date, cohort_size, retained_day1, retained_day7, active_users, retention_rate_day1, \
     retention_rate_day7, created_at, updated_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) \
    ON CONFLICT (metrics_date) DO UPDATE SET cohort_size = excluded.cohort_size, \
        retained_day1 = excluded.retained_day1, retained_day7 = excluded.retained_day7, \
        active_users = excluded.active_users, retention_rate_day1 = excluded.retention_rate_day1, \
        retention_rate_day7 = excluded.retention_rate_day7, updated_at = excluded.updated_at";
const DAILY: &str = "SELECT metrics_date, cohort_size, retained_day1, retained_day7, active_users, \
    retention_rate_day1, retention_rate_day7 FROM metrics_daily WHERE metrics_date = $1";

type Span = (DateTime<Utc>, DateTime<Utc>);

impl Store {
    /// Records that a user did something.
    pub async fn insert_event(&self, user: Uuid, name: &str, properties: Value) -> Result<(), StoreError> {
        on_pool!(self, pool => sqlx::query(INSERT_EVENT)
            .bind(Uuid::new_v4()).bind(user).bind(name).bind(Json(properties)).bind(self.now().await?)
            .execute(pool).await.map(drop))?;
        Ok(())
    }

    /// Keeps an exchange of a user with the companion, in one transaction with the answer to a request that must not take
    /// effect twice.
    pub async fn insert_session(
        &self,
        user: Uuid,
        turns: &[Turn],
        tokens: i32,
        answer: Option<(&OnceKey, &str)>,
    ) -> Result<(), StoreError> {
        let now = self.now().await?;
        on_pool!(self, pool => {
            let insert = sqlx::query(INSERT_SESSION);
            let insert = insert.bind(Uuid::new_v4()).bind(user).bind(Json(turns.to_vec())).bind(tokens).bind(now);
            let Some((once, answer)) = answer else {
                insert.execute(pool).await?;
                return Ok(());
            };
            let mut tx = pool.begin_write().await?;
            insert.execute(&mut *tx).await?;
            sqlx::query(KEEP)
                .bind(&once.owner).bind(&once.key).bind(&once.request_hash).bind(answer)
                .execute(&mut *tx).await?;
            tx.commit().await?;
        });
        Ok(())
    }

    /// The last exchanges of a user, oldest first. Transcripts of another shape are passed over.
    pub async fn last_turns(&self, user: Uuid, exchanges: i64) -> Result<Vec<Turn>, StoreError> {
        let rows: Vec<Json<Value>> = on_pool!(self, pool => sqlx::query_scalar(LAST_SESSIONS)
            .bind(user).bind(exchanges).fetch_all(pool).await)?;
        let readable = rows.into_iter().rev().filter_map(|Json(value)| serde_json::from_value(value).ok());
        Ok(readable.flat_map(|turns: Vec<Turn>| turns).collect())
    }

    pub(crate) async fn cohort_size(&self, day: Span) -> Result<i64, StoreError> {
        Ok(
            on_pool!(self, pool => sqlx::query_scalar(COHORT_SIZE).bind(day.0).bind(day.1).fetch_one(pool).await)?,
        )
    }

    pub(crate) async fn active_users(&self, day: Span) -> Result<i64, StoreError> {
        Ok(
            on_pool!(self, pool => sqlx::query_scalar(ACTIVE_USERS).bind(day.0).bind(day.1).fetch_one(pool).await)?,
        )
    }

    /// How many of those who signed up on one day were active on another.
    pub(crate) async fn retained(&self, cohort: Span, active: Span) -> Result<i64, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_scalar(RETAINED)
            .bind(cohort.0).bind(cohort.1).bind(active.0).bind(active.1).fetch_one(pool).await)?)
    }

    /// Keeps the metrics of a day, replacing those computed before.
    pub(crate) async fn upsert_daily_metrics(&self, metrics: &DailyMetrics) -> Result<(), StoreError> {
        on_pool!(self, pool => sqlx::query(UPSERT_DAILY)
            .bind(Uuid::new_v4())
            .bind(metrics.metrics_date)
            .bind(metrics.cohort_size)
            .bind(metrics.retained_day1)
            .bind(metrics.retained_day7)
            .bind(metrics.active_users)
            .bind(metrics.retention_rate_day1)
            .bind(metrics.retention_rate_day7)
            .bind(self.now().await?)
            .execute(pool)
            .await
            .map(drop))?;
        Ok(())
    }

    /// The metrics kept for a day.
    pub async fn daily_metrics(&self, date: NaiveDate) -> Result<Option<DailyMetrics>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(DAILY).bind(date).fetch_optional(pool).await)?)
    }
}
