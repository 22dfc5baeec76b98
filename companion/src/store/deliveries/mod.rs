//! Deliveries as the database sees them, many in one transaction: they begin with the right to deliver and a record of each
//! sending, and end with what came of them.

/// The columns of a [`Reminder`], each after this prefix.
macro_rules! reminder_columns {
    ($table:literal) => {
        concat!(
            $table,
            "id, ",
            $table,
            "user_id, ",
            $table,
            "text, ",
            $table,
            "run_ts, ",
            $table,
            "local_ts, ",
            $table,
            "utc_ts, ",
            $table,
            "correlation_id, ",
            $table,
            "status, ",
            $table,
            "last_attempt_at, ",
            $table,
            "sent_at, ",
            $table,
            "calendar_event_id, ",
            $table,
            "delivery_attempts, ",
            $table,
            "delivery_until"
        )
    };
}

mod postgres;
mod sqlite;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use uuid::Uuid;

use super::{Pool, Reminder, Store, StoreError};

/// A delivery that somebody wants to make.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Of this reminder.
    pub reminder: Uuid,
    /// By which the right to deliver is known.
    pub token: Uuid,
    /// The reminder must be due at this time.
    pub due_at: DateTime<Utc>,
    /// How long the right to deliver lasts.
    pub lease: Duration,
}

/// A delivery whose right is held.
#[derive(Debug, Clone, FromRow)]
pub struct Begun {
    /// What is to be delivered.
    #[sqlx(flatten)]
    pub reminder: Reminder,
    /// By which the right to deliver is known.
    pub delivery_token: Uuid,
    /// The user's address.
    pub email: String,
    /// The user's phone.
    pub push_token: Option<String>,
    /// What earlier deliveries have left, by channel.
    #[sqlx(skip)]
    pub before: Vec<ChannelDelivery>,
}

/// How a sending by a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelStatus {
    /// It has begun; only its sender knows more.
    Sending,
    /// It began, and nobody knows how it ended: the message may have been delivered.
    Uncertain,
    /// The message was delivered.
    Delivered,
    /// The message was not delivered.
    Failed,
}

impl ChannelStatus {
    /// The name in `reminder_deliveries.status`. The previous release knows an uncertain sending as one that has begun,
    /// which it does not repeat; the column `uncertain_at` tells the two apart.
    fn name(self) -> &'static str {
        match self {
            Self::Sending | Self::Uncertain => "sending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    fn from_columns(status: &str, is_uncertain: bool) -> Self {
        match status {
            "delivered" => Self::Delivered,
            "sending" if is_uncertain => Self::Uncertain,
            "sending" => Self::Sending,
            _ => Self::Failed,
        }
    }
}

/// A sending of a reminder by a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelDelivery {
    /// Name of the channel.
    pub channel: String,
    /// How it stands.
    pub status: ChannelStatus,
}

/// What is to be recorded of a delivery.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Of this reminder.
    pub reminder: Uuid,
    /// By which the right to deliver is known.
    pub token: Uuid,
    /// How sendings ended.
    pub channels: Vec<ChannelDelivery>,
    /// How the delivery ended; nothing while it goes on.
    pub outcome: Option<Outcome>,
}

/// How a delivery ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The user was reminded.
    Sent,
    /// It is tried again after a time.
    Retry {
        /// So many attempts have failed.
        attempts: i32,
        /// When the next attempt begins.
        after: Duration,
        /// How much later than that it is queued again, should the attempt be lost.
        overdue: Duration,
    },
    /// It was given up.
    Failed {
        /// So many attempts have failed.
        attempts: i32,
        /// The name of the task, for `failed_jobs`.
        job_name: &'static str,
        /// Why, for `failed_jobs`.
        reason: String,
    },
}

impl Store {
    /// Takes the right to deliver reminders that are scheduled, due, and held by nobody else, and records the sendings that
    /// `plan` makes of each; all in one transaction. Returns what was begun.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available; nothing is begun then.
    pub async fn begin_deliveries(
        &self,
        wanted: &[Wanted],
        plan: &(dyn Fn(&Begun) -> Vec<ChannelDelivery> + Send + Sync),
    ) -> Result<Vec<Begun>, StoreError> {
        Ok(match &self.pool {
            Pool::Postgres(pool) => postgres::begin(pool, wanted, plan).await?,
            Pool::Sqlite(pool) => sqlite::begin(pool, wanted, plan).await?,
        })
    }

    /// Records how sendings and deliveries ended, in one transaction; what ends for good is settled in the outbox, and closes
    /// its rows in `failed_jobs` if it was sent. Returns the reminders whose outcome was recorded, and when: not those whose
    /// right to deliver somebody else has by now, and not those that were canceled.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available; nothing is recorded then.
    pub async fn end_deliveries(&self, ended: &[Ended]) -> Result<(Vec<Uuid>, DateTime<Utc>), StoreError> {
        Ok(match &self.pool {
            Pool::Postgres(pool) => postgres::end(pool, ended).await?,
            Pool::Sqlite(pool) => sqlite::end(pool, ended).await?,
        })
    }
}
