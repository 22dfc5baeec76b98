//! Reminders: made by the chat, found by scans when they are due, delivered once, or canceled.
//!
//! Two kinds of holds keep them apart, both with an end, so that nothing is lost when their holder dies:
//!
//! - a **claim** of a scan ([`claim_due`]): no other scan hands the reminder out while its delivery is queued;
//! - the **right to deliver** ([`deliver`]): only its holder sends.

mod deliver;

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use deliver::{Delivery, MAX_ATTEMPTS, deliver};

use crate::{
    Companion,
    store::{self, DueReminder, NewReminder, Reminder, ReminderPart, StoreError, User},
};

/// How long a scan's claim keeps other scans away. A delivery that was queued and lost is queued again after it.
pub const CLAIM_LEASE: Duration = Duration::from_secs(180);

/// What came of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canceled {
    /// It was scheduled and is canceled now.
    Canceled,
    /// It had this status already.
    Noop(store::ReminderStatus),
    /// There is no such reminder of this user.
    NotFound,
}

/// What came of a wish to queue a reminder again.
#[derive(Debug, Clone)]
pub enum Requeued {
    /// It is scheduled (again) and claimed; its delivery must be queued now.
    Ready(DueReminder),
    /// It stays as it is, for this reason.
    Skipped(String),
}

/// Makes a reminder.
///
/// # Errors
/// When the database is not available.
pub async fn create(companion: &Companion, new: &NewReminder) -> Result<Uuid, StoreError> {
    let id = companion.store.insert_reminder(new).await?;
    log::info!(reminder_id:% = id, user:% = new.user_id, due:% = new.due.to_rfc3339(),
        correlation_id = new.correlation_id; "Reminder {id} scheduled");
    Ok(id)
}

/// Some of a user's reminders, newest first.
#[derive(Debug, Clone)]
pub struct Page {
    /// The reminders.
    pub reminders: Vec<Reminder>,
    /// The number of all that match.
    pub total: i64,
    /// The reminder behind which the next page begins; `None` on the last one.
    pub next: Option<Uuid>,
}

/// Lists a part of a user's reminders.
///
/// # Errors
/// [`StoreError`] when the database is not available.
pub async fn list(companion: &Companion, user: &User, part: &ReminderPart) -> Result<Page, StoreError> {
    // One more tells whether there is a next page.
    let asked = ReminderPart { limit: part.limit + 1, ..*part };
    let (reminders, total) = tokio::try_join!(
        companion.store.reminders_of(user.id, &asked),
        companion.store.count_reminders_of(user.id, part)
    )?;
    let mut page = Page { reminders, total, next: None };
    if page.reminders.len() as i64 > part.limit {
        page.reminders.pop();
        page.next = page.reminders.last().map(|reminder| reminder.id);
    }
    Ok(page)
}

/// Claims up to `limit` reminders that are due at `due_at`. Whoever gets them queues a delivery for each, or gives
/// them back with [`Store::release_claim`](store::Store::release_claim).
///
/// # Errors
/// When the database is not available.
pub async fn claim_due(
    companion: &Companion,
    due_at: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<DueReminder>, StoreError> {
    let until = companion.store.now().await? + CLAIM_LEASE;
    companion.store.claim_due_reminders(due_at, until, limit).await
}

/// Cancels a reminder of a user. One that is being sent at this moment may still arrive.
///
/// # Errors
/// When the database is not available.
pub async fn cancel(companion: &Companion, user: &User, id: Uuid) -> Result<Canceled, StoreError> {
    if companion.store.cancel_reminder(id, user.id).await? {
        log::info!(reminder_id:% = id, user:% = user.id; "Reminder {id} canceled");
        return Ok(Canceled::Canceled);
    }
    let reminder = companion.store.reminder(id).await?.filter(|reminder| reminder.user_id == user.id);
    Ok(reminder.map_or(Canceled::NotFound, |reminder| Canceled::Noop(reminder.status)))
}

/// Prepares a reminder that an operator has chosen to be queued again, also one that was given up.
///
/// # Errors
/// When the database is not available.
pub async fn requeue(companion: &Companion, id: Uuid) -> Result<Requeued, StoreError> {
    let until = companion.store.now().await? + CLAIM_LEASE;
    if let Some(ready) = companion.store.requeue_reminder(id, until).await? {
        return Ok(Requeued::Ready(ready));
    }
    let reason = match companion.store.reminder(id).await? {
        None => "not found".to_owned(),
        Some(reminder) if reminder.status == store::ReminderStatus::Scheduled => "being delivered".to_owned(),
        Some(reminder) => format!("already {}", reminder.status.name()),
    };
    Ok(Requeued::Skipped(reason))
}
