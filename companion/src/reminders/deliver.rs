//! Delivery of one reminder.
//!
//! A reminder is never sent twice, whatever is killed or started twice: only the holder of the right to deliver sends;
//! each sending is recorded before it begins and after it ends; and `sent` is written only by the holder. What a dead
//! holder left as begun is repeated only on channels that recognise a repetition (Resend by its idempotency key, the
//! file by its content).
//!
//! A line in the development file counts as a delivery only where no other channel is configured: it must not hide that
//! the others fail.
//!
//! The honest limit: when a worker dies, or no answer comes, while a push message is under way to Expo, nobody can know
//! whether it arrived. It is not sent again by Expo; if no other channel delivers, the reminder ends as `error` with a
//! row in `failed_jobs` that says so, and an operator may queue it again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use uuid::Uuid;

use crate::{
    Companion,
    notify::{Channel, ChannelError, Notification, SEND_TIMEOUT},
    store::{ChannelDelivery, Reminder, ReminderStatus, StoreError},
};

/// After so many failed attempts a reminder is given up.
pub const MAX_ATTEMPTS: u32 = 5;

/// How long the right to deliver lasts; well beyond what all channels take together.
const DELIVERY_LEASE: Duration = Duration::from_secs(60);
const LONGEST_RETRY: Duration = Duration::from_secs(3600);
const JOB_NAME: &str = "app.tasks.reminders.deliver_reminder";

/// What came of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// There is no such reminder.
    NotFound,
    /// It is not scheduled any more; nothing was sent.
    NotScheduled(ReminderStatus),
    /// It is due later; nothing was sent.
    NotDue {
        /// When.
        due: DateTime<Utc>,
    },
    /// Another worker is delivering it; nothing was sent. Look again after `until`, in case that worker dies.
    Busy {
        /// When the other's right ends.
        until: DateTime<Utc>,
    },
    /// At least one channel delivered it.
    Sent,
    /// No channel delivered it: to be tried again. Logged as `Retrying reminder ...`.
    Retry {
        /// The attempt that failed, from 1.
        attempt: u32,
        /// How long to wait.
        after: Duration,
        /// Why it failed.
        reason: String,
    },
    /// It was given up. Logged, counted and kept in `failed_jobs`.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Delivers a reminder that is due at `now` by every channel that reaches its user.
///
/// `retries` is what the caller knows of earlier attempts; those recorded with the reminder count as well.
///
/// # Errors
/// When the database is not available; what was sent by then is not sent again.
pub async fn deliver(
    companion: &Companion,
    id: Uuid,
    now: DateTime<Utc>,
    retries: u32,
) -> Result<Delivery, StoreError> {
    let token = Uuid::new_v4();
    let until = companion.store.now().await? + DELIVERY_LEASE;
    let Some(reminder) = companion.store.begin_delivery(id, token, until, now).await? else {
        return why_not(companion, id, now).await;
    };
    let attempts = Attempts { token, failed_before: retries.max(reminder.delivery_attempts.unsigned_abs()) };
    let Some(user) = companion.store.user(reminder.user_id).await? else {
        return Ok(Delivery::NotFound);
    };
    let notification = Notification::new(&reminder, &user, companion.settings.tz);
    let before = companion.store.channel_deliveries(id).await?;
    let people_can_be_reached = companion.channels.iter().any(Channel::reaches_people);
    let sendings =
        companion.channels.iter().filter(|channel| channel.reaches(&notification)).map(async |channel| {
            let before = before.iter().find(|earlier| earlier.channel == channel.name());
            let sending = send(companion, channel, &notification, token, before).await?;
            Ok(match sending {
                Sending::Lost => Some(Sending::Lost),
                sending => (channel.reaches_people() || !people_can_be_reached).then_some(sending),
            })
        });
    let results =
        join_all(sendings).await.into_iter().collect::<Result<Vec<Option<Sending>>, StoreError>>()?;
    let results: Vec<Sending> = results.into_iter().flatten().collect();
    if results.iter().any(|result| matches!(result, Sending::Lost)) {
        return why_not(companion, id, now).await;
    }
    if results.iter().any(|result| matches!(result, Sending::Delivered)) {
        return sent(companion, &reminder, token).await;
    }
    let nothing_to_repeat =
        !results.is_empty() && results.iter().all(|result| matches!(result, Sending::Unknown(_)));
    let reason = reasons(results);
    if nothing_to_repeat {
        let reason = format!("{reason}; not sent again, since it may have arrived");
        return give_up(companion, &reminder, &attempts, reason, "without a further attempt").await;
    }
    retry_or_give_up(companion, &reminder, &attempts, reason).await
}

struct Attempts {
    token: Uuid,
    failed_before: u32,
}

enum Sending {
    Delivered,
    NotDelivered(String),
    /// It may have arrived, and must not be repeated.
    Unknown(String),
    /// The right to deliver is lost, or the reminder was canceled meanwhile.
    Lost,
}

async fn send(
    companion: &Companion,
    channel: &Channel,
    notification: &Notification,
    token: Uuid,
    before: Option<&ChannelDelivery>,
) -> Result<Sending, StoreError> {
    let id = notification.reminder_id;
    match before.map(|before| before.status.as_str()) {
        Some("delivered") => return Ok(Sending::Delivered),
        Some("sending") if !channel.recognises_repetition() => {
            let reason = format!("{}: an earlier delivery ended within the sending", channel.name());
            return Ok(Sending::Unknown(reason));
        }
        _ => {}
    }
    let held_beyond = companion.store.now().await? + SEND_TIMEOUT;
    if !companion.store.begin_channel(id, token, channel.name(), held_beyond).await? {
        return Ok(Sending::Lost);
    }
    match channel.send(notification).await {
        Ok(()) => {
            companion.store.end_channel(id, channel.name(), true).await?;
            Ok(Sending::Delivered)
        }
        Err(error) if error.may_have_delivered() && !channel.recognises_repetition() => {
            log_failure(id, channel, &error);
            Ok(Sending::Unknown(error.to_string()))
        }
        Err(error) => {
            log_failure(id, channel, &error);
            companion.store.end_channel(id, channel.name(), false).await?;
            Ok(Sending::NotDelivered(error.to_string()))
        }
    }
}

fn log_failure(id: Uuid, channel: &Channel, error: &ChannelError) {
    log::warn!(reminder_id:% = id, channel = channel.name(), retryable = error.is_retryable(), error:% = error;
        "Reminder {id} was not delivered by {}", channel.name());
}

async fn why_not(companion: &Companion, id: Uuid, now: DateTime<Utc>) -> Result<Delivery, StoreError> {
    Ok(match companion.store.reminder(id).await? {
        None => Delivery::NotFound,
        Some(reminder) if reminder.status != ReminderStatus::Scheduled => {
            Delivery::NotScheduled(reminder.status)
        }
        Some(reminder) if reminder.utc_ts > now => Delivery::NotDue { due: reminder.utc_ts },
        Some(reminder) => Delivery::Busy { until: reminder.delivery_until.unwrap_or(now) },
    })
}

async fn sent(companion: &Companion, reminder: &Reminder, token: Uuid) -> Result<Delivery, StoreError> {
    let (id, at) = (reminder.id, companion.store.now().await?);
    if !companion.store.mark_sent(id, token, at).await? {
        return why_not(companion, id, at).await;
    }
    let latency = at - reminder.utc_ts;
    log::info!(reminder_id:% = id, correlation_id = reminder.correlation_id,
        latency_ms = latency.num_milliseconds(); "Reminder {id} sent");
    Ok(Delivery::Sent)
}

async fn retry_or_give_up(
    companion: &Companion,
    reminder: &Reminder,
    attempts: &Attempts,
    reason: String,
) -> Result<Delivery, StoreError> {
    let attempt = attempts.failed_before + 1;
    if attempt >= MAX_ATTEMPTS {
        return give_up(companion, reminder, attempts, reason, "after max retries").await;
    }
    let after = backoff(companion.settings.reminder_retry, attempts.failed_before);
    let overdue = companion.store.now().await? + after + super::CLAIM_LEASE;
    companion.store.end_attempt(reminder.id, attempts.token, attempt.cast_signed(), overdue).await?;
    let seconds = after.as_secs();
    log::warn!(reminder_id:% = reminder.id, attempt, correlation_id = reminder.correlation_id;
        "Retrying reminder {} (attempt {attempt}/{MAX_ATTEMPTS}) in {seconds}s due to: {reason}", reminder.id);
    Ok(Delivery::Retry { attempt, after, reason })
}

async fn give_up(
    companion: &Companion,
    reminder: &Reminder,
    attempts: &Attempts,
    reason: String,
    how: &str,
) -> Result<Delivery, StoreError> {
    let attempt = attempts.failed_before + 1;
    let store = &companion.store;
    if !store.mark_error(reminder.id, attempts.token, attempt.cast_signed(), JOB_NAME, &reason).await? {
        return why_not(companion, reminder.id, store.now().await?).await;
    }
    log::error!(reminder_id:% = reminder.id, attempt, correlation_id = reminder.correlation_id;
        "Reminder {} failed {how}: {reason}", reminder.id);
    Ok(Delivery::Failed { reason })
}

/// `min(first * 2^retries, 1 h)`.
fn backoff(first: Duration, retries: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(retries)).min(LONGEST_RETRY)
}

fn reasons(results: Vec<Sending>) -> String {
    let texts: Vec<String> = results
        .into_iter()
        .filter_map(|result| match result {
            Sending::NotDelivered(reason) | Sending::Unknown(reason) => Some(reason),
            Sending::Delivered | Sending::Lost => None,
        })
        .collect();
    match texts.is_empty() {
        true => "no configured channel reaches the user; set RESEND_API_KEY, or have the app register a push token"
            .to_owned(),
        false => texts.join("; "),
    }
}
