use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::{Store, StoreError, on_pool};

/// A row of `failed_jobs`: work that was given up.
#[derive(Debug, Clone, FromRow)]
pub struct FailedJob {
    /// Primary key.
    pub id: Uuid,
    /// The name of the task.
    pub job_name: String,
    /// What it was called with.
    pub payload: Json<Value>,
    /// Why it failed.
    pub error_message: String,
    /// So many attempts have failed.
    pub attempts: i32,
    /// When the last one failed.
    pub last_error_at: DateTime<Utc>,
    /// When it was first given up.
    pub created_at: DateTime<Utc>,
    /// When it was closed; an open one waits for somebody to decide.
    pub resolved_at: Option<DateTime<Utc>>,
    /// How it was closed.
    pub resolution: Option<String>,
}

impl FailedJob {
    /// The reminder that it is about.
    pub fn reminder(&self) -> Option<Uuid> {
        self.payload.get("reminder_id")?.as_str()?.parse().ok()
    }
}

const LIST: &str = "SELECT id, job_name, payload, error_message, attempts, last_error_at, created_at, resolved_at, \
    resolution FROM failed_jobs WHERE resolved_at IS NULL OR $1 ORDER BY last_error_at DESC LIMIT $2";
const BY_ID: &str = "SELECT id, job_name, payload, error_message, attempts, last_error_at, created_at, resolved_at, \
    resolution FROM failed_jobs WHERE id = $1";
const COUNT: &str = "SELECT count(*) FROM failed_jobs WHERE resolved_at IS NULL";
const CLOSE: &str = "UPDATE failed_jobs SET resolved_at = $2, resolution = $3, updated_at = $2 \
    WHERE id = $1 AND resolved_at IS NULL";

impl Store {
    /// Jobs that were given up, the latest failure first; `closed` ones as well or only open ones.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available.
    pub async fn failed_jobs(&self, closed: bool, limit: i64) -> Result<Vec<FailedJob>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(LIST).bind(closed).bind(limit).fetch_all(pool).await)?)
    }

    /// The job with this id.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available.
    pub async fn failed_job(&self, id: Uuid) -> Result<Option<FailedJob>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(BY_ID).bind(id).fetch_optional(pool).await)?)
    }

    /// How many open jobs there are.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available.
    pub async fn count_failed_jobs(&self) -> Result<i64, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_scalar(COUNT).fetch_one(pool).await)?)
    }

    /// Closes an open job; returns whether there was one. `resolution` says how, in at most 32 characters.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available.
    pub async fn close_failed_job(&self, id: Uuid, resolution: &str) -> Result<bool, StoreError> {
        let now = self.now().await?;
        let closed = on_pool!(self, pool => sqlx::query(CLOSE).bind(id).bind(now).bind(resolution)
            .execute(pool).await.map(|done| done.rows_affected()))?;
        Ok(closed == 1)
    }
}
