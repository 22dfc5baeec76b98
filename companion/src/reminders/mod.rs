//! Reminders: made by the chat, delivered once when they are due, or canceled.
//!
//! A reminder is kept together with the message that delivers it (`celeriac-outbox`); the message is published ahead of time,
//! and settled when nothing is left to do. A scan ([`queue_due`]) queues what has no message, such as rows that the previous
//! release wrote. Only the holder of the right to deliver sends ([`deliver`]); the right has an end, so that nothing is lost
//! when its holder dies.

mod decide;
mod deliver;
mod desk;
mod plan;

use std::time::{Duration, Instant};

use celeriac_outbox::Message;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

pub use decide::{Closed, accept_uncertain, requeue_failed_job, resend_uncertain};
pub use deliver::{Delivery, MAX_ATTEMPTS, deliver};
pub(crate) use desk::Desk;

use crate::{
    Companion,
    store::{self, DueReminder, NewReminder, Reminder, ReminderPart, StoreError, User},
};

/// The task that delivers a reminder.
pub const DELIVER: &str = "app.tasks.reminders.deliver_reminder";
/// The queue of the service.
pub const QUEUE: &str = "default";
/// How long before it is due the message of a reminder is published; a worker then holds it until the time has come.
pub const AHEAD: Duration = Duration::from_secs(120);
/// How many reminders a scan queues in one transaction.
const BATCH: i64 = 500;
/// How long a cancellation waits for a sending under way.
const SENDING_PATIENCE: Duration = Duration::from_secs(5);

/// What came of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canceled {
    /// It was scheduled and is canceled now.
    Canceled,
    /// It had this status already.
    Noop(store::ReminderStatus),
    /// It is being sent; nobody can call it back.
    BeingSent,
    /// There is no such reminder of this user.
    NotFound,
}

/// What came of a wish to queue a reminder again.
#[derive(Debug, Clone)]
pub enum Requeued {
    /// It is scheduled (again), and its delivery will be queued as the task with this id.
    Queued(Uuid),
    /// It stays as it is, for this reason.
    Skipped(String),
}

/// Makes a reminder and the message that will deliver it, both or neither.
///
/// # Errors
/// When the database is not available.
pub async fn create(companion: &Companion, new: &NewReminder) -> Result<Uuid, StoreError> {
    let id = Uuid::new_v4();
    create_as(companion, id, new).await?;
    Ok(id)
}

/// As [`create`], with an id that the caller has chosen.
///
/// # Errors
/// [`StoreError`] if the database is not available, or the id is taken.
pub async fn create_as(companion: &Companion, id: Uuid, new: &NewReminder) -> Result<(), StoreError> {
    let due = DueReminder { id, correlation_id: new.correlation_id.clone(), utc_ts: new.due };
    companion.store.insert_reminder(id, new, delivery(&due, None)).await?;
    log::info!(reminder_id:% = id, user:% = new.user_id, due:% = new.due.to_rfc3339(),
        correlation_id = new.correlation_id; "Reminder {id} scheduled");
    Ok(())
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

/// Queues the reminders that are due at `due_at` and have no message, and returns how many there were. Without `as_of`, the
/// time to which the deliveries are to keep, those that will be due within [`AHEAD`] are queued as well and not counted.
///
/// # Errors
/// When the database is not available; what is queued by then stays so.
pub async fn queue_due(
    companion: &Companion,
    due_at: DateTime<Utc>,
    as_of: Option<&str>,
) -> Result<u64, StoreError> {
    let horizon = if as_of.is_some() { due_at } else { due_at + AHEAD };
    let mut count = 0;
    loop {
        let message = |due: &DueReminder| delivery(due, as_of);
        let queued = companion.store.queue_due_reminders(horizon, BATCH, message).await?;
        count += queued.iter().filter(|reminder| reminder.utc_ts <= due_at).count() as u64;
        if queued.len() < BATCH as usize {
            return Ok(count);
        }
    }
}

/// The message that delivers a reminder, `as_of` some time or when it is due.
fn delivery(reminder: &DueReminder, as_of: Option<&str>) -> Message {
    let message = Message::new(DELIVER)
        .arg(reminder.id.to_string())
        .kwarg("current_time_iso", as_of.map_or(Value::Null, Value::from))
        .kwarg("trace_id", reminder.correlation_id.as_str())
        .option("headers", json!({ "x_request_id": reminder.correlation_id }))
        .option("queue", QUEUE);
    match as_of {
        None => message.eta(reminder.utc_ts, AHEAD),
        Some(_) => message,
    }
}

/// Cancels a reminder of a user. One that is being sent is waited for, as it cannot be called back.
///
/// # Errors
/// When the database is not available.
pub async fn cancel(companion: &Companion, user: &User, id: Uuid) -> Result<Canceled, StoreError> {
    let started = Instant::now();
    loop {
        if companion.store.cancel_reminder(id, user.id).await? {
            log::info!(reminder_id:% = id, user:% = user.id; "Reminder {id} canceled");
            return Ok(Canceled::Canceled);
        }
        let reminder = companion.store.reminder(id).await?.filter(|reminder| reminder.user_id == user.id);
        match reminder.map(|reminder| reminder.status) {
            None => return Ok(Canceled::NotFound),
            Some(store::ReminderStatus::Scheduled) if started.elapsed() > SENDING_PATIENCE => {
                return Ok(Canceled::BeingSent);
            }
            Some(store::ReminderStatus::Scheduled) => tokio::time::sleep(Duration::from_millis(50)).await,
            Some(status) => return Ok(Canceled::Noop(status)),
        }
    }
}

/// Queues a reminder that an operator has chosen again, also one that was given up. The operator decides about sendings of
/// which nobody knows how they ended: they are forgotten, and made again. The delivery has the given correlation id, or that of
/// the request that made the reminder.
///
/// # Errors
/// When the database is not available.
pub async fn requeue(
    companion: &Companion,
    id: Uuid,
    correlation_id: Option<&str>,
) -> Result<Requeued, StoreError> {
    let message = |due: &DueReminder| match correlation_id {
        None => delivery(due, None),
        Some(request) => delivery(&DueReminder { correlation_id: request.to_owned(), ..due.clone() }, None),
    };
    if let Some(task) = companion.store.requeue_reminder(id, message).await? {
        return Ok(Requeued::Queued(task));
    }
    let reason = match companion.store.reminder(id).await? {
        None => "not found".to_owned(),
        Some(reminder) if reminder.status == store::ReminderStatus::Scheduled => "being delivered".to_owned(),
        Some(reminder) => format!("already {}", reminder.status.name()),
    };
    Ok(Requeued::Skipped(reason))
}
