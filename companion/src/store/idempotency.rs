//! Requests that must not take effect twice, and the answers that they got.

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use sqlx::FromRow;
use uuid::Uuid;

use super::{Store, StoreError, on_pool};

/// How long an answer is kept.
const KEPT: TimeDelta = TimeDelta::hours(24);
/// After so long a request that has no answer was lost with the process that worked on it. A chat hardly takes longer; two
/// that work on one request at once make nothing twice either.
const LOST: TimeDelta = TimeDelta::seconds(30);

/// A request that must not take effect twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnceKey {
    /// Whose key it is.
    pub owner: String,
    /// The client's key, at most 255 characters.
    pub key: String,
    /// SHA-256 of what is asked, in lower-case hex.
    pub request_hash: String,
}

/// The work on a request that must not take effect twice, which an earlier process may have left half done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// The request.
    pub key: OnceKey,
    /// From which the ids of what it makes follow.
    pub seed: Uuid,
    /// The time at which it was first made.
    pub asked_at: DateTime<Utc>,
    /// Nobody has worked on it before.
    pub is_first: bool,
}

impl Once {
    /// Returns the id of what the request makes as the `number`th of its kind: the same one whenever it is worked on.
    pub fn id(&self, kind: &str, number: u32) -> Uuid {
        let digest =
            Sha256::new().chain_update(self.seed).chain_update(number.to_be_bytes()).chain_update(kind);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.finalize()[..16]);
        Uuid::new_v8(bytes)
    }
}

/// What is known of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// No answer: the caller works on it now, and keeps the answer, forgets the request or gives it back.
    Begun(Once),
    /// Its answer.
    Answered(String),
    /// Somebody works on it.
    Running,
    /// The key was used for another request.
    Other,
}

#[derive(FromRow)]
struct Row {
    request_hash: String,
    answer: Option<String>,
}

const BEGIN: &str = "INSERT INTO idempotency_keys (owner, key, request_hash, begun_at, seed, asked_at) \
    VALUES ($1, $2, $3, $4, $7, $4) \
    ON CONFLICT (owner, key) DO UPDATE \
        SET request_hash = excluded.request_hash, begun_at = excluded.begun_at, answer = NULL, \
            seed = CASE WHEN idempotency_keys.begun_at <= $5 THEN excluded.seed \
                ELSE coalesce(idempotency_keys.seed, excluded.seed) END, \
            asked_at = CASE WHEN idempotency_keys.begun_at <= $5 THEN excluded.asked_at \
                ELSE coalesce(idempotency_keys.asked_at, excluded.asked_at) END \
        WHERE idempotency_keys.begun_at <= $5 \
            OR (idempotency_keys.answer IS NULL AND idempotency_keys.request_hash = excluded.request_hash \
                AND idempotency_keys.begun_at <= $6) \
    RETURNING seed, asked_at";
const FIND: &str = "SELECT request_hash, answer FROM idempotency_keys WHERE owner = $1 AND key = $2";
pub(super) const KEEP: &str =
    "UPDATE idempotency_keys SET answer = $4 WHERE owner = $1 AND key = $2 AND request_hash = $3";
const FORGET: &str =
    "DELETE FROM idempotency_keys WHERE owner = $1 AND key = $2 AND request_hash = $3 AND answer IS NULL";
const GIVE_BACK: &str = "UPDATE idempotency_keys SET begun_at = $4 \
    WHERE owner = $1 AND key = $2 AND request_hash = $3 AND answer IS NULL";
const SWEEP: &str = "DELETE FROM idempotency_keys WHERE (owner, key) IN \
    (SELECT owner, key FROM idempotency_keys WHERE begun_at <= $1 ORDER BY begun_at LIMIT 100)";

impl Store {
    /// Begins a request, or tells what became of it when it was made before.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available.
    pub async fn begin_once(&self, once: &OnceKey) -> Result<Known, StoreError> {
        let (now, new_seed) = (self.now().await?, Uuid::new_v4());
        let expired: DateTime<Utc> = now - KEPT;
        let begun: Option<(Uuid, DateTime<Utc>)> = on_pool!(self, pool => {
            sqlx::query(SWEEP).bind(expired).execute(pool).await?;
            sqlx::query_as(BEGIN)
                .bind(&once.owner).bind(&once.key).bind(&once.request_hash).bind(now).bind(expired).bind(now - LOST)
                .bind(new_seed)
                .fetch_optional(pool).await?
        });
        if let Some((seed, asked_at)) = begun {
            let is_first = seed == new_seed;
            return Ok(Known::Begun(Once { key: once.clone(), seed, asked_at, is_first }));
        }
        let row: Option<Row> = on_pool!(self, pool => sqlx::query_as(FIND)
            .bind(&once.owner).bind(&once.key).fetch_optional(pool).await)?;
        Ok(match row {
            Some(row) if row.request_hash != once.request_hash => Known::Other,
            Some(Row { answer: Some(answer), .. }) => Known::Answered(answer),
            // Gone since: its work has just failed, and a repetition may begin it anew.
            Some(Row { answer: None, .. }) | None => Known::Running,
        })
    }

    /// Keeps the answer of a request that was begun.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available.
    pub async fn keep_answer(&self, once: &OnceKey, answer: &str) -> Result<(), StoreError> {
        on_pool!(self, pool => sqlx::query(KEEP)
            .bind(&once.owner).bind(&once.key).bind(&once.request_hash).bind(answer)
            .execute(pool).await.map(drop))?;
        Ok(())
    }

    /// Gives back a request that was begun and failed after it may have made something: a repetition goes on with it.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available.
    pub async fn give_back_once(&self, once: &OnceKey) -> Result<(), StoreError> {
        let lost = self.now().await? - LOST;
        on_pool!(self, pool => sqlx::query(GIVE_BACK)
            .bind(&once.owner).bind(&once.key).bind(&once.request_hash).bind(lost).execute(pool).await.map(drop))?;
        Ok(())
    }

    /// Forgets a request that was begun and refused, so that it may be made anew.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available.
    pub async fn forget_once(&self, once: &OnceKey) -> Result<(), StoreError> {
        on_pool!(self, pool => sqlx::query(FORGET)
            .bind(&once.owner).bind(&once.key).bind(&once.request_hash).execute(pool).await.map(drop))?;
        Ok(())
    }
}
