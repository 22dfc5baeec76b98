//! Finding due reminders, and delivering one.

use celeriac::message::Signature;
use celeriac::prelude::*;
use companion::Companion;
use companion::reminders::{self, Delivery};
use companion::store::DueReminder;
use uuid::Uuid;

use crate::QUEUE;
use crate::instant::given_or_now;

/// How many reminders are claimed at a time.
const BATCH: i64 = 500;
/// Seconds until a task tries again whose database was away.
const DATABASE_RETRY: u32 = 15;

/// Queues a delivery for each reminder that is due, and returns how many there were.
///
/// A reminder that is claimed and not queued, since Redis or the worker died, is claimed again by a later scan.
#[celeriac::task(name = "app.tasks.reminders.send_due_reminders", acks_late)]
pub(crate) async fn send_due_reminders(
    ctx: Context,
    companion: State<Companion>,
    current_time_iso: Option<String>,
) -> TaskResult<i64> {
    let now = given_or_now(&companion.store, current_time_iso.as_deref()).await?;
    let mut queued = 0;
    loop {
        let due = reminders::claim_due(&companion, now, BATCH).await?;
        let is_last = due.len() < BATCH as usize;
        for reminder in due {
            queue_delivery(&ctx, &companion, &reminder, current_time_iso.as_deref()).await?;
            queued += 1;
        }
        if is_last {
            log::info!(count = queued, correlation_id = ctx.request().id.as_str(); "Queued {queued} due reminder(s)");
            return Ok(queued);
        }
    }
}

async fn queue_delivery(
    ctx: &Context,
    companion: &Companion,
    reminder: &DueReminder,
    current_time_iso: Option<&str>,
) -> TaskResult<()> {
    let delivery = Signature::new(deliver_reminder::NAME)
        .arg(reminder.id.to_string())
        .kwarg("current_time_iso", current_time_iso.map(str::to_owned))
        .kwarg("trace_id", reminder.correlation_id.as_str())
        .option("headers", celeriac::value!({"x_request_id": reminder.correlation_id}))
        .option("queue", QUEUE);
    let sent = ctx.send(delivery).await;
    if sent.is_err() {
        // Best effort: an unreleased claim ends by itself.
        if let Err(error) = companion.store.release_claim(reminder.id).await {
            log::warn!(reminder_id:% = reminder.id, error:% = error; "The claim on reminder {} could not be released", reminder.id);
        }
    }
    sent.map(drop)
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
    let delivery = match companion.store.now().await {
        Ok(now) => {
            let given = given_or_now(&companion.store, current_time_iso.as_deref()).await?;
            reminders::deliver(&companion, id, given.max(now), 0).await
        }
        Err(error) => Err(error),
    };
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
