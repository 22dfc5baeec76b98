use celeriac_outbox::Message;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::{
    BeginWrite, Store, StoreError, on_pool,
    outbox::{Outbox, key},
};

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

/// A reminder whose delivery is to be queued.
#[derive(Debug, Clone, FromRow)]
pub struct DueReminder {
    /// Primary key.
    pub id: Uuid,
    /// The request that made it.
    pub correlation_id: String,
    /// When it is due.
    pub utc_ts: DateTime<Utc>,
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
/// One that is being sent is not canceled.
const CANCEL: &str = "UPDATE reminders SET status = 'canceled' WHERE id = $1 AND user_id = $2 \
    AND status = 'scheduled' AND (delivery_until IS NULL OR delivery_until <= $3)";

const REQUEUE: &str = "UPDATE reminders \
    SET status = 'scheduled', delivery_attempts = 0, claimed_until = NULL \
    WHERE id = $1 AND status IN ('scheduled', 'error') AND (delivery_until IS NULL OR delivery_until <= $2) \
    RETURNING id, correlation_id, utc_ts";
/// An operator who asks again decides about sendings of which nobody knows how they ended.
const FORGET_UNDELIVERED: &str =
    "DELETE FROM reminder_deliveries WHERE reminder_id = $1 AND status <> 'delivered'";

impl Store {
    /// Keeps a reminder together with the message that delivers it.
    pub async fn insert_reminder(
        &self,
        id: Uuid,
        new: &NewReminder,
        message: Message,
    ) -> Result<(), StoreError> {
        let (message, now) = (message.key(key(id)), self.now().await?);
        on_pool!(self, pool => {
            let mut tx = pool.begin_write().await?;
            sqlx::query(INSERT)
                .bind(id)
                .bind(new.user_id)
                .bind(&new.text)
                .bind(new.due)
                .bind(&new.original_phrase)
                .bind(&new.correlation_id)
                .bind(now)
                .execute(&mut *tx)
                .await?;
            tx.add(&[message]).await?;
            tx.commit().await?;
        });
        Ok(())
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

    /// Cancels a scheduled reminder of this user that is not being sent; returns whether there was one to cancel.
    pub async fn cancel_reminder(&self, id: Uuid, user: Uuid) -> Result<bool, StoreError> {
        let now = self.now().await?;
        let changed = on_pool!(self, pool => {
            let mut tx = pool.begin_write().await?;
            let query = sqlx::query(CANCEL).bind(id).bind(user).bind(now);
            let changed = query.execute(&mut *tx).await?.rows_affected();
            if changed == 1 {
                tx.settle(&[key(id)]).await?;
            }
            tx.commit().await?;
            changed
        });
        Ok(changed == 1)
    }

    /// Makes a scheduled or failed reminder ready to be delivered again, with the message that does so; nothing when it was
    /// sent or canceled, is not there, or is being delivered right now.
    pub async fn requeue_reminder(
        &self,
        id: Uuid,
        message: impl Fn(&DueReminder) -> Message,
    ) -> Result<Option<Uuid>, StoreError> {
        let now = self.now().await?;
        let requeued = on_pool!(self, pool => {
            let mut tx = pool.begin_write().await?;
            let query = sqlx::query_as(REQUEUE).bind(id).bind(now);
            let requeued: Option<DueReminder> = query.fetch_optional(&mut *tx).await?;
            let mut queued = None;
            if let Some(reminder) = requeued {
                sqlx::query(FORGET_UNDELIVERED).bind(id).execute(&mut *tx).await?;
                let message = message(&reminder).key(key(id));
                queued = Some(message.id());
                tx.settle(&[key(id)]).await?;
                tx.add(&[message]).await?;
            }
            tx.commit().await?;
            queued
        });
        Ok(requeued)
    }
}
