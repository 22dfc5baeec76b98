use chrono::{DateTime, Utc};
use sqlx::FromRow;
use uuid::Uuid;

use super::{
    BeginWrite, ReminderStatus, Store, StoreError, on_pool,
    outbox::{Outbox, key},
};

/// A sending of which nobody knows whether it arrived, of a reminder that no other channel has delivered.
#[derive(Debug, Clone, FromRow)]
pub struct UncertainDelivery {
    /// Of this reminder.
    pub reminder_id: Uuid,
    /// Whom it was to remind.
    pub user_id: Uuid,
    /// By this channel.
    pub channel: String,
    /// When the reminder was due.
    pub utc_ts: DateTime<Utc>,
    /// Where the reminder is in its life.
    pub reminder_status: ReminderStatus,
    /// When the sending began.
    pub started_at: DateTime<Utc>,
}

const LIST: &str = "SELECT d.reminder_id, r.user_id, d.channel, r.utc_ts, r.status AS reminder_status, d.started_at \
    FROM reminder_deliveries d JOIN reminders r ON r.id = d.reminder_id \
    WHERE d.uncertain_at IS NOT NULL AND d.status = 'sending' AND r.status IN ('scheduled', 'error') \
    ORDER BY d.started_at LIMIT $1";
const SENT: &str = "UPDATE reminders SET status = 'sent', delivery_token = NULL, sent_at = \
        (SELECT min(started_at) FROM reminder_deliveries WHERE reminder_id = $1 AND uncertain_at IS NOT NULL) \
    WHERE id = $1 AND status IN ('scheduled', 'error') AND (delivery_until IS NULL OR delivery_until <= $2) \
      AND EXISTS (SELECT 1 FROM reminder_deliveries \
        WHERE reminder_id = $1 AND uncertain_at IS NOT NULL AND status = 'sending')";
const DELIVERED: &str = "UPDATE reminder_deliveries SET status = 'delivered', finished_at = $2 \
    WHERE reminder_id = $1 AND uncertain_at IS NOT NULL AND status = 'sending'";
const CLOSE_JOBS: &str = "UPDATE failed_jobs SET resolved_at = $2, resolution = 'delivered', updated_at = $2 \
    WHERE resolved_at IS NULL AND payload ->> 'reminder_id' = $1";

impl Store {
    /// The sendings about which an engineer is to decide, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available.
    pub async fn uncertain_deliveries(&self, limit: i64) -> Result<Vec<UncertainDelivery>, StoreError> {
        Ok(on_pool!(self, pool => sqlx::query_as(LIST).bind(limit).fetch_all(pool).await)?)
    }

    /// Takes an uncertain sending for delivered: the reminder becomes `sent`. Returns whether there was such a reminder that
    /// is not being delivered right now.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available; nothing is changed then.
    pub async fn accept_uncertain(&self, reminder: Uuid) -> Result<bool, StoreError> {
        let now = self.now().await?;
        let changed = on_pool!(self, pool => {
            let mut tx = pool.begin_write().await?;
            let query = sqlx::query(SENT).bind(reminder).bind(now);
            let changed = query.execute(&mut *tx).await?.rows_affected();
            if changed == 1 {
                sqlx::query(DELIVERED).bind(reminder).bind(now).execute(&mut *tx).await?;
                let query = sqlx::query(CLOSE_JOBS).bind(reminder.to_string()).bind(now);
                query.execute(&mut *tx).await?;
                tx.settle(&[key(reminder)]).await?;
            }
            tx.commit().await?;
            changed
        });
        Ok(changed == 1)
    }
}
