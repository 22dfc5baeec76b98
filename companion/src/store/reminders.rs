use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::{BeginWrite, Pool, Store, StoreError, on_pool};

/// The life of a reminder: `scheduled`, then one of the others for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(type_name = "reminder_status_enum", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ReminderStatus {
    /// Waits for its time.
    Scheduled,
    /// At least one channel delivered it.
    Sent,
    /// The user took it back.
    Canceled,
    /// No channel delivered it, and nobody tries any more.
    Error,
}

impl ReminderStatus {
    /// All statuses.
    pub const ALL: [Self; 4] = [Self::Scheduled, Self::Sent, Self::Canceled, Self::Error];

    /// Returns the name in the database and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Sent => "sent",
            Self::Canceled => "canceled",
            Self::Error => "error",
        }
    }
}

/// A reminder; all times are UTC.
#[derive(Debug, Clone, FromRow)]
pub struct Reminder {
    /// Primary key.
    pub id: Uuid,
    /// Whom to remind.
    pub user_id: Uuid,
    /// Of what.
    pub text: String,
    /// When, as the user asked for it.
    pub run_ts: DateTime<Utc>,
    /// The same instant, meant for display in the user's zone.
    pub local_ts: DateTime<Utc>,
    /// The instant at which it is due.
    pub utc_ts: DateTime<Utc>,
    /// The request that made it.
    pub correlation_id: String,
    /// Where in its life it is.
    pub status: ReminderStatus,
    /// When a delivery was last tried.
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// When it was delivered.
    pub sent_at: Option<DateTime<Utc>>,
    /// Event of a linked calendar.
    pub calendar_event_id: Option<String>,
    /// How many deliveries have failed.
    pub delivery_attempts: i32,
    /// Until when the delivery under way holds it.
    pub delivery_until: Option<DateTime<Utc>>,
}

/// A part of a user's reminders.
#[derive(Debug, Clone, Copy)]
pub struct ReminderPart {
    /// Most reminders to return.
    pub limit: i64,
    /// Only reminders behind this one of the same user.
    pub after: Option<Uuid>,
    /// Only reminders with this status.
    pub status: Option<ReminderStatus>,
}

impl ReminderPart {
    fn status_name(&self) -> &'static str {
        self.status.map_or("", ReminderStatus::name)
    }
}

/// A reminder to be kept.
#[derive(Debug, Clone)]
pub struct NewReminder {
    /// Whom to remind.
    pub user_id: Uuid,
    /// Of what.
    pub text: String,
    /// When.
    pub due: DateTime<Utc>,
    /// The words of the user.
    pub original_phrase: Option<String>,
    /// The request that makes it, at most 64 characters.
    pub correlation_id: String,
}

/// A reminder that a scan has claimed.
#[derive(Debug, Clone, FromRow)]
pub struct DueReminder {
    /// Primary key.
    pub id: Uuid,
    /// The request that made it.
    pub correlation_id: String,
}

/// What is known of a reminder's delivery on one channel.
#[derive(Debug, Clone, FromRow)]
pub struct ChannelDelivery {
    /// Name of the channel.
    pub channel: String,
    /// `sending`, `delivered` or `failed`.
    pub status: String,
}

/// How many reminders have a status.
#[derive(Debug, Clone, FromRow)]
pub struct StatusCount {
    /// The status.
    pub status: ReminderStatus,
    /// How many.
    pub count: i64,
}

macro_rules! reminder_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " id, user_id, text, run_ts, local_ts, utc_ts, correlation_id, status, last_attempt_at, sent_at, \
              calendar_event_id, delivery_attempts, delivery_until ",
            $after
        )
    };
}

const INSERT: &str = "INSERT INTO reminders \
    (id, user_id, text, run_ts, original_phrase, local_ts, utc_ts, correlation_id, status, created_at, \
     delivery_attempts) \
    VALUES ($1, $2, $3, $4, $5, $4, $4, $6, 'scheduled', $7, 0)";
const BY_ID: &str = reminder_columns!("SELECT", "FROM reminders WHERE id = $1");
/// Rows of the Python service have no `created_at`: they come last.
const OF_USER: &str = reminder_columns!(
    "SELECT",
    "FROM reminders WHERE user_id = $1 AND ($2 = '' OR CAST(status AS TEXT) = $2) \
     AND ($3 IS NULL OR (COALESCE(created_at, $4), utc_ts, id) < \
        (SELECT COALESCE(c.created_at, $4), c.utc_ts, c.id FROM reminders c WHERE c.id = $3 AND c.user_id = $1)) \
     ORDER BY COALESCE(created_at, $4) DESC, utc_ts DESC, id DESC LIMIT $5"
);
const COUNT_OF_USER: &str =
    "SELECT count(*) FROM reminders WHERE user_id = $1 AND ($2 = '' OR CAST(status AS TEXT) = $2)";
const RECENT: &str = reminder_columns!(
    "SELECT",
    "FROM reminders ORDER BY created_at IS NULL, created_at DESC, utc_ts DESC LIMIT $1"
);
const DUE_BETWEEN: &str = reminder_columns!(
    "SELECT",
    "FROM reminders WHERE user_id = $1 AND status = 'scheduled' AND utc_ts >= $2 AND utc_ts < $3 \
     ORDER BY utc_ts LIMIT 200"
);
const COUNTS: &str = "SELECT status, count(*) AS count FROM reminders GROUP BY status";
const CANCEL: &str =
    "UPDATE reminders SET status = 'canceled' WHERE id = $1 AND user_id = $2 AND status = 'scheduled'";

/// Two scans at once never get the same row: the second skips rows that the first has locked, and sees the claims of
/// a first that has committed.
const CLAIM_DUE_POSTGRES: &str = "WITH due AS MATERIALIZED ( \
        SELECT id FROM reminders \
        WHERE status = 'scheduled' AND utc_ts <= $1 \
          AND (claimed_until IS NULL OR claimed_until <= $2) \
          AND (delivery_until IS NULL OR delivery_until <= $2) \
        ORDER BY utc_ts LIMIT $4 FOR UPDATE SKIP LOCKED) \
    UPDATE reminders SET claimed_until = $3 FROM due WHERE reminders.id = due.id \
    RETURNING reminders.id, reminders.correlation_id";
/// SQLite has one writer at a time, so one statement is enough.
const CLAIM_DUE_SQLITE: &str = "UPDATE reminders SET claimed_until = $3 WHERE id IN ( \
        SELECT id FROM reminders \
        WHERE status = 'scheduled' AND utc_ts <= $1 \
          AND (claimed_until IS NULL OR claimed_until <= $2) \
          AND (delivery_until IS NULL OR delivery_until <= $2) \
        ORDER BY utc_ts LIMIT $4) \
    RETURNING id, correlation_id";
const RELEASE_CLAIM: &str =
    "UPDATE reminders SET claimed_until = NULL WHERE id = $1 AND status = 'scheduled'";

const BEGIN_DELIVERY: &str = reminder_columns!(
    "UPDATE reminders SET delivery_token = $2, delivery_until = $3, last_attempt_at = $4 \
     WHERE id = $1 AND status = 'scheduled' AND utc_ts <= $5 \
       AND (delivery_until IS NULL OR delivery_until <= $4) RETURNING",
    ""
);
const CHANNELS: &str = "SELECT channel, status FROM reminder_deliveries WHERE reminder_id = $1";
const BEGIN_CHANNEL: &str = "INSERT INTO reminder_deliveries (reminder_id, channel, status, started_at) \
     SELECT id, $2, 'sending', $3 FROM reminders \
     WHERE id = $1 AND status = 'scheduled' AND delivery_token = $4 AND delivery_until > $5 \
     ON CONFLICT (reminder_id, channel) DO UPDATE SET status = 'sending', started_at = excluded.started_at \
     WHERE reminder_deliveries.status <> 'delivered'";
const END_CHANNEL: &str =
    "UPDATE reminder_deliveries SET status = $3, finished_at = $4 WHERE reminder_id = $1 AND channel = $2";
const MARK_SENT: &str = "UPDATE reminders SET status = 'sent', sent_at = $3, delivery_until = NULL \
    WHERE id = $1 AND delivery_token = $2 AND status = 'scheduled'";
const END_ATTEMPT: &str = "UPDATE reminders \
    SET delivery_attempts = $3, delivery_token = NULL, delivery_until = NULL, claimed_until = $4 \
    WHERE id = $1 AND delivery_token = $2 AND status = 'scheduled'";
const MARK_ERROR: &str = "UPDATE reminders SET status = 'error', delivery_attempts = $3, delivery_until = NULL \
    WHERE id = $1 AND delivery_token = $2 AND status = 'scheduled'";
const INSERT_FAILED_JOB: &str = "INSERT INTO failed_jobs \
    (id, job_name, payload, error_message, attempts, last_error_at, created_at, updated_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $6, $6)";
const FAILED_JOBS: &str = "SELECT count(*) FROM failed_jobs";

const REQUEUE: &str = "UPDATE reminders \
    SET status = 'scheduled', delivery_attempts = 0, claimed_until = $2 \
    WHERE id = $1 AND status IN ('scheduled', 'error') AND (delivery_until IS NULL OR delivery_until <= $3) \
    RETURNING id, correlation_id";
/// An operator who asks again decides about sendings of which nobody knows how they ended.
const FORGET_UNDELIVERED: &str =
    "DELETE FROM reminder_deliveries WHERE reminder_id = $1 AND status <> 'delivered'";

impl Store {
    /// Keeps a reminder and returns its id.
    pub async fn insert_reminder(&self, new: &NewReminder) -> Result<Uuid, StoreError> {
        let id = Uuid::new_v4();
        on_pool!(self, pool => sqlx::query(INSERT)
            .bind(id)
            .bind(new.user_id)
            .bind(&new.text)
            .bind(new.due)
            .bind(&new.original_phrase)
            .bind(&new.correlation_id)
            .bind(self.now().await?)
            .execute(pool)
            .await
            .map(drop))?;
        Ok(id)
    }

    /// The reminder with this id.
    pub async fn reminder(&self, id: Uuid) -> Result<Option<Reminder>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(BY_ID).bind(id).fetch_optional(pool).await)?)
    }

    /// Returns a part of a user's reminders, newest first.
    pub async fn reminders_of(&self, user: Uuid, part: &ReminderPart) -> Result<Vec<Reminder>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(OF_USER)
            .bind(user).bind(part.status_name()).bind(part.after).bind(DateTime::UNIX_EPOCH).bind(part.limit)
            .fetch_all(pool).await)?)
    }

    /// Counts the reminders of a user that a list without a limit would hold.
    pub async fn count_reminders_of(&self, user: Uuid, part: &ReminderPart) -> Result<i64, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_scalar(COUNT_OF_USER)
            .bind(user).bind(part.status_name()).fetch_one(pool).await)?)
    }

    /// The newest reminders of all users.
    pub async fn recent_reminders(&self, limit: i64) -> Result<Vec<Reminder>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(RECENT).bind(limit).fetch_all(pool).await)?)
    }

    /// The scheduled reminders of a user in a span of time, in order.
    pub async fn reminders_due_between(
        &self,
        user: Uuid,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<Reminder>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(DUE_BETWEEN)
            .bind(user).bind(from).bind(to).fetch_all(pool).await)?)
    }

    /// How many reminders there are in each status.
    pub async fn reminder_counts(&self) -> Result<Vec<StatusCount>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(COUNTS).fetch_all(pool).await)?)
    }

    /// Cancels a scheduled reminder of this user; whether there was one to cancel.
    pub async fn cancel_reminder(&self, id: Uuid, user: Uuid) -> Result<bool, StoreError> {
        let changed = on_pool!(self, pool => sqlx::query(CANCEL)
            .bind(id).bind(user).execute(pool).await.map(|done| done.rows_affected()))?;
        Ok(changed == 1)
    }

    /// Claims up to `limit` reminders due at `due_at` until `until`, the most overdue first.
    pub async fn claim_due_reminders(
        &self,
        due_at: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<DueReminder>, StoreError> {
        let claimed = match &self.pool {
            Pool::Postgres(pool) => {
                let query = sqlx::query_as(CLAIM_DUE_POSTGRES);
                query.bind(due_at).bind(self.now().await?).bind(until).bind(limit).fetch_all(pool).await
            }
            Pool::Sqlite(pool) => {
                let query = sqlx::query_as(CLAIM_DUE_SQLITE);
                query.bind(due_at).bind(self.now().await?).bind(until).bind(limit).fetch_all(pool).await
            }
        };
        Ok(claimed?)
    }

    /// Gives a claim back, so that the next scan finds the reminder.
    pub async fn release_claim(&self, id: Uuid) -> Result<(), StoreError> {
        on_pool!(self, pool => sqlx::query(RELEASE_CLAIM).bind(id).execute(pool).await.map(drop))?;
        Ok(())
    }

    /// Takes the exclusive right to deliver a scheduled reminder that is due at `due_at`, until `until`.
    pub async fn begin_delivery(
        &self,
        id: Uuid,
        token: Uuid,
        until: DateTime<Utc>,
        due_at: DateTime<Utc>,
    ) -> Result<Option<Reminder>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(BEGIN_DELIVERY)
            .bind(id).bind(token).bind(until).bind(self.now().await?).bind(due_at).fetch_optional(pool).await)?)
    }

    /// What earlier deliveries of the reminder have left.
    pub async fn channel_deliveries(&self, id: Uuid) -> Result<Vec<ChannelDelivery>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(CHANNELS).bind(id).fetch_all(pool).await)?)
    }

    /// Records that sending by a channel begins; refused (`false`) when the right to deliver is not held beyond
    /// `held_beyond`, when the reminder was canceled, or when the channel has delivered it already.
    pub async fn begin_channel(
        &self,
        id: Uuid,
        token: Uuid,
        channel: &str,
        held_beyond: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let begun = on_pool!(self, pool => sqlx::query(BEGIN_CHANNEL)
            .bind(id).bind(channel).bind(self.now().await?).bind(token).bind(held_beyond)
            .execute(pool).await.map(|done| done.rows_affected()))?;
        Ok(begun == 1)
    }

    /// Records how sending by a channel ended.
    pub async fn end_channel(&self, id: Uuid, channel: &str, delivered: bool) -> Result<(), StoreError> {
        let status = if delivered { "delivered" } else { "failed" };
        on_pool!(self, pool => sqlx::query(END_CHANNEL)
            .bind(id).bind(channel).bind(status).bind(self.now().await?).execute(pool).await.map(drop))?;
        Ok(())
    }

    /// Marks a reminder as sent; `false` when somebody else has ended it.
    pub async fn mark_sent(&self, id: Uuid, token: Uuid, at: DateTime<Utc>) -> Result<bool, StoreError> {
        let changed = on_pool!(self, pool => sqlx::query(MARK_SENT)
            .bind(id).bind(token).bind(at).execute(pool).await.map(|done| done.rows_affected()))?;
        Ok(changed == 1)
    }

    /// Ends a failed attempt and keeps scans away until `claimed_until`, when its retry is overdue.
    pub async fn end_attempt(
        &self,
        id: Uuid,
        token: Uuid,
        attempts: i32,
        claimed_until: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        on_pool!(self, pool => sqlx::query(END_ATTEMPT)
            .bind(id).bind(token).bind(attempts).bind(claimed_until).execute(pool).await.map(drop))?;
        Ok(())
    }

    /// Gives a reminder up and keeps the reason in `failed_jobs`, both or neither; `false` when somebody else has
    /// ended it.
    pub async fn mark_error(
        &self,
        id: Uuid,
        token: Uuid,
        attempts: i32,
        job_name: &str,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let payload = Json(json!({ "reminder_id": id }));
        let changed = on_pool!(self, pool => {
            let mut tx = pool.begin_write().await?;
            let query = sqlx::query(MARK_ERROR).bind(id).bind(token).bind(attempts);
            let changed = query.execute(&mut *tx).await?.rows_affected();
            if changed == 1 {
                sqlx::query(INSERT_FAILED_JOB)
                    .bind(Uuid::new_v4()).bind(job_name).bind(payload).bind(reason).bind(attempts).bind(self.now().await?)
                    .execute(&mut *tx).await?;
            }
            tx.commit().await?;
            changed
        });
        Ok(changed == 1)
    }

    /// How many rows `failed_jobs` has.
    pub async fn failed_jobs(&self) -> Result<i64, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_scalar(FAILED_JOBS).fetch_one(pool).await)?)
    }

    /// Makes a scheduled or failed reminder ready to be queued again and claims it until `until`; nothing when it was
    /// sent or canceled, is not there, or is being delivered right now.
    pub async fn requeue_reminder(
        &self,
        id: Uuid,
        until: DateTime<Utc>,
    ) -> Result<Option<DueReminder>, StoreError> {
        let requeued = on_pool!(self, pool => {
            let mut tx = pool.begin_write().await?;
            let query = sqlx::query_as(REQUEUE).bind(id).bind(until).bind(self.now().await?);
            let requeued: Option<DueReminder> = query.fetch_optional(&mut *tx).await?;
            if requeued.is_some() {
                sqlx::query(FORGET_UNDELIVERED).bind(id).execute(&mut *tx).await?;
            }
            tx.commit().await?;
            requeued
        });
        Ok(requeued)
    }
}
