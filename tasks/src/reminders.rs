//! Finding due reminders, and delivering one.

use std::time::{Duration, Instant};

use celeriac::prelude::*;
use chrono::{DateTime, TimeDelta, Utc};
use companion::Companion;
use companion::reminders::{self, Delivery};
use companion::store::StoreError;
use uuid::Uuid;

use crate::instant::given_or_now;

/// Seconds until a task tries again whose database was away.
const DATABASE_RETRY: u32 = 15;
/// For how long a delivery waits for a database that is away. Nothing could be delivered meanwhile, and a retry would be one
/// message more.
const DATABASE_PATIENCE: Duration = Duration::from_secs(30);
const DATABASE_PAUSE: Duration = Duration::from_millis(500);
/// A reminder that is due within this time is waited for.
const AT_ONCE: TimeDelta = TimeDelta::seconds(1);

/// Queues a delivery for each reminder that is due and not queued, and returns how many there were.
#[celeriac::task(name = "app.tasks.reminders.send_due_reminders", acks_late)]
pub(crate) async fn send_due_reminders(
    ctx: Context,
    companion: State<Companion>,
    current_time_iso: Option<String>,
) -> TaskResult<i64> {
    let now = given_or_now(&companion.store, current_time_iso.as_deref()).await?;
    let queued = reminders::queue_due(&companion, now, current_time_iso.as_deref()).await?;
    log::info!(count = queued, correlation_id = ctx.request().id.as_str(); "Queued {queued} due reminder(s)");
    Ok(queued.cast_signed())
}

/// Delivers one reminder; `true` when it needs nothing more, `false` when there is none or it was given up.
#[celeriac::task(name = "app.tasks.reminders.deliver_reminder", acks_late, max_retries = 100000)]
pub(crate) async fn deliver_reminder(
    ctx: Context,
    companion: State<Companion>,
    reminder_id: String,
    current_time_iso: Option<String>,
    trace_id: Option<String>,
) -> TaskResult<bool> {
    let id = reminder_id.parse::<Uuid>().map_err(|_| {
        TaskError::builtin("ValueError", format!("reminder_id is {reminder_id:?}, expected a UUID"))
    })?;
    let given = match &current_time_iso {
        Some(time) => Some(given_or_now(&companion.store, Some(time)).await?),
        None => None,
    };
    let delivery = deliver_patiently(&companion, id, given).await;
    let correlation_id = trace_id.unwrap_or_else(|| ctx.request().id.clone());
    log::info!(reminder_id:% = id, correlation_id = correlation_id.as_str(), task_id = ctx.request().id.as_str(), outcome:? = delivery; "Delivery of reminder {id}");
    match delivery {
        Ok(Delivery::Sent | Delivery::NotScheduled(_)) => Ok(true),
        Ok(Delivery::NotFound | Delivery::Failed { .. }) => Ok(false),
        Ok(Delivery::NotDue { due }) => Err(ctx.retry().eta(due).into()),
        Ok(Delivery::Busy { until }) => Err(ctx.retry().eta(until).into()),
        Ok(Delivery::Retry { after, reason, .. }) => {
            Err(ctx.retry().countdown(after).exc(TaskError::builtin("RuntimeError", reason)).into())
        }
        Err(error) => {
            log::error!(reminder_id:% = id, error:% = error; "Reminder {id} waits for the database: {error}");
            Err(ctx.retry().countdown(DATABASE_RETRY).exc(error).into())
        }
    }
}

/// Delivers a reminder as soon as the database is there, within [`DATABASE_PATIENCE`]. One that is due at once is waited for:
/// the clocks of worker and database are not quite the same.
async fn deliver_patiently(
    companion: &Companion,
    id: Uuid,
    given: Option<DateTime<Utc>>,
) -> Result<Delivery, StoreError> {
    let started = Instant::now();
    loop {
        match deliver_now(companion, id, given).await {
            Ok((Delivery::NotDue { due }, now)) if due - now < AT_ONCE => {
                tokio::time::sleep((due - now).to_std().unwrap_or_default()).await;
            }
            Err(error) if error.is_retryable() && started.elapsed() < DATABASE_PATIENCE => {
                tokio::time::sleep(DATABASE_PAUSE).await;
            }
            delivery => return delivery.map(|(delivery, _)| delivery),
        }
    }
}

/// Delivers a reminder that is due now, or at the given time if that is later; also returns that time.
async fn deliver_now(
    companion: &Companion,
    id: Uuid,
    given: Option<DateTime<Utc>>,
) -> Result<(Delivery, DateTime<Utc>), StoreError> {
    let now = companion.store.now().await?;
    let now = given.map_or(now, |given| given.max(now));
    Ok((reminders::deliver(companion, id, now, 0).await?, now))
}
