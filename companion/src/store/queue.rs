//! The scan: reminders whose delivery is not queued get the message that delivers them.

use celeriac_outbox::Message;
use chrono::{DateTime, Utc};

use super::{
    BeginWrite, DueReminder, Pool, Store, StoreError, host_now,
    outbox::{Outbox, key},
};

/// Rows that another scan has locked are left to it. A reminder is queued if a message with its key is published already,
/// or will be within a minute; one that is to be published later is replaced, since the reminder was moved.
const DUE_POSTGRES: &str = "SELECT id, correlation_id, utc_ts FROM reminders \
    WHERE status = 'scheduled' AND utc_ts <= $1 \
      AND (claimed_until IS NULL OR claimed_until <= now()) \
      AND (delivery_until IS NULL OR delivery_until <= now()) \
      AND NOT EXISTS (SELECT 1 FROM outbox_messages \
        WHERE key = 'reminder/' || replace(reminders.id::text, '-', '') \
          AND (publications > 0 OR publish_at <= now() + interval '1 minute')) \
    ORDER BY utc_ts LIMIT $2 FOR UPDATE SKIP LOCKED";
const DUE_SQLITE: &str = "SELECT id, correlation_id, utc_ts FROM reminders \
    WHERE status = 'scheduled' AND utc_ts <= $1 \
      AND (claimed_until IS NULL OR claimed_until <= $3) \
      AND (delivery_until IS NULL OR delivery_until <= $3) \
      AND NOT EXISTS (SELECT 1 FROM outbox_messages \
        WHERE key = 'reminder/' || lower(hex(reminders.id)) AND (publications > 0 OR publish_at <= $4)) \
    ORDER BY utc_ts LIMIT $2";

impl Store {
    /// Queues up to `limit` reminders that are due at `due_at` and not queued, the most overdue first, and returns them;
    /// reminders and messages change in one transaction.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available; nothing is queued then.
    pub async fn queue_due_reminders(
        &self,
        due_at: DateTime<Utc>,
        limit: i64,
        message: impl Fn(&DueReminder) -> Message,
    ) -> Result<Vec<DueReminder>, StoreError> {
        let messages = |due: &[DueReminder]| -> Vec<Message> {
            due.iter().map(|reminder| message(reminder).key(key(reminder.id))).collect()
        };
        Ok(match &self.pool {
            Pool::Postgres(pool) => {
                let mut tx = pool.begin_write().await?;
                let query = sqlx::query_as(DUE_POSTGRES).bind(due_at).bind(limit);
                let due: Vec<DueReminder> = query.fetch_all(&mut *tx).await?;
                tx.add(&messages(&due)).await?;
                tx.commit().await?;
                due
            }
            Pool::Sqlite(pool) => {
                let mut tx = pool.begin_write().await?;
                let (now, soon) = (host_now(), host_now() + chrono::TimeDelta::minutes(1));
                let query = sqlx::query_as(DUE_SQLITE).bind(due_at).bind(limit).bind(now).bind(soon);
                let due: Vec<DueReminder> = query.fetch_all(&mut *tx).await?;
                tx.add(&messages(&due)).await?;
                tx.commit().await?;
                due
            }
        })
    }
}
