//! Delivery of one reminder.
//!
//! A reminder is never sent twice, whatever is killed or started twice: only the holder of the right to deliver sends;
//! each sending is recorded before it begins and after it ends; and `sent` is written only by the holder. What a dead
//! holder left as begun is repeated only on channels that recognise a repetition (Resend by its idempotency key, the
//! file by its content). While the database is away, a delivery that has sent keeps trying to say so.
//!
//! A line in the development file counts as a delivery only where no other channel is configured: it must not hide that
//! the others fail.
//!
//! The honest limit: when a worker dies, or no answer comes, while a push message is under way to Expo, nobody can know
//! whether it arrived. Such a sending is recorded as uncertain and not repeated; if no other channel delivers, the reminder
//! ends as `error` with a row in `failed_jobs` that says so, and an engineer decides whether it is to be sent again or taken
//! for delivered ([`super::resend_uncertain`], [`super::accept_uncertain`]).

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use uuid::Uuid;

use super::{
    DELIVER,
    plan::{self, Step},
};
use crate::{
    Companion,
    notify::{Channel, ChannelError, Notification, SEND_TIMEOUT},
    store::{Begun, ChannelDelivery, ChannelStatus, Ended, Outcome, ReminderStatus, StoreError, Wanted},
};

/// After so many failed attempts a reminder is given up.
pub const MAX_ATTEMPTS: u32 = 5;

/// How long the right to deliver lasts; twice what all channels take together. A message that a dead worker held comes back
/// later than that.
const DELIVERY_LEASE: Duration = Duration::from_secs(30);
/// How long after a failed attempt should have been repeated it is queued again.
const OVERDUE: Duration = Duration::from_secs(180);
/// For how long a delivery that has sent tries to say so while the database is away, and how often.
const RECORDING: Duration = Duration::from_secs(60);
const RECORDING_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(3600);

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
/// [`StoreError`] when the database is not available; what was sent by then is not sent again.
pub async fn deliver(
    companion: &Companion,
    id: Uuid,
    now: DateTime<Utc>,
    retries: u32,
) -> Result<Delivery, StoreError> {
    let wanted = Wanted { reminder: id, token: Uuid::new_v4(), due_at: now, lease: DELIVERY_LEASE };
    let asked = Instant::now();
    let Some(begun) = companion.desk.begin(wanted).await? else {
        return why_not(companion, id, now).await;
    };
    let delivering = Delivering {
        companion,
        asked,
        failed_before: retries.max(begun.reminder.delivery_attempts.unsigned_abs()),
        begun: &begun,
    };
    delivering.run().await
}

/// A delivery whose right is held.
struct Delivering<'a> {
    companion: &'a Companion,
    begun: &'a Begun,
    /// Before the right to deliver began.
    asked: Instant,
    failed_before: u32,
}

enum Sending {
    Delivered,
    NotDelivered(String),
    /// It may have arrived, and must not be repeated.
    Uncertain(String),
}

impl Delivering<'_> {
    async fn run(&self) -> Result<Delivery, StoreError> {
        let channels = &self.companion.channels;
        let steps = plan::of(self.begun, channels);
        // If the process stood still meanwhile, somebody else may deliver before the sending ends.
        if self.asked.elapsed() + SEND_TIMEOUT > DELIVERY_LEASE {
            return why_not(self.companion, self.begun.reminder.id, self.now()).await;
        }
        let notification = Notification::new(self.begun, self.companion.settings.tz);
        let sends = steps.iter().filter(|(_, step)| *step == Step::Send).count();
        let sendings = join_all(steps.iter().map(async |(channel, step)| {
            let sending = self.send(channel, *step, &notification).await;
            // What several channels do ends at different times, and is not to be forgotten if this process dies.
            if sends > 1 && *step == Step::Send {
                self.record(vec![recorded(channel, &sending)], None).await?;
            }
            Ok((*channel, *step, sending))
        }))
        .await
        .into_iter()
        .collect::<Result<Vec<_>, StoreError>>()?;
        let unrecorded = sendings
            .iter()
            .filter(|(_, step, _)| *step == Step::Send && sends == 1)
            .map(|(channel, _, sending)| recorded(channel, sending))
            .collect();
        let people_can_be_reached = channels.iter().any(Channel::reaches_people);
        let counted: Vec<Sending> = sendings
            .into_iter()
            .filter(|(channel, ..)| channel.reaches_people() || !people_can_be_reached)
            .map(|(_, _, sending)| sending)
            .collect();
        self.conclude(counted, unrecorded).await
    }

    async fn send(&self, channel: &Channel, step: Step, notification: &Notification) -> Sending {
        match step {
            Step::Delivered => return Sending::Delivered,
            Step::Uncertain => {
                let name = channel.name();
                return Sending::Uncertain(format!("{name}: an earlier delivery ended within the sending"));
            }
            Step::Send => {}
        }
        // Nothing is given up because of a channel that nobody has tried.
        let is_last = self.failed_before + 1 >= MAX_ATTEMPTS;
        let Err(error) = channel.send(notification, is_last).await else { return Sending::Delivered };
        let id = self.begun.reminder.id;
        log::warn!(reminder_id:% = id, channel = channel.name(), retryable = error.is_retryable(), error:% = error;
            "Reminder {id} was not delivered by {}", channel.name());
        if let (ChannelError::Unregistered { .. }, Some(token)) = (&error, &notification.push_token) {
            self.forget_push_token(token).await;
        }
        match error.may_have_delivered() && !channel.recognises_repetition() {
            true => Sending::Uncertain(error.to_string()),
            false => Sending::NotDelivered(error.to_string()),
        }
    }

    async fn forget_push_token(&self, token: &str) {
        let user = self.begun.reminder.user_id;
        match self.companion.store.forget_push_token(user, token).await {
            Ok(()) => {
                log::info!(user:% = user; "A push token was forgotten, its device is not registered any more")
            }
            // The next delivery is told the same.
            Err(error) => log::warn!(user:% = user, error:% = error; "A push token could not be forgotten"),
        }
    }

    async fn conclude(
        &self,
        sendings: Vec<Sending>,
        channels: Vec<ChannelDelivery>,
    ) -> Result<Delivery, StoreError> {
        if sendings.iter().any(|sending| matches!(sending, Sending::Delivered)) {
            return self.sent(channels).await;
        }
        let nothing_to_repeat =
            !sendings.is_empty() && sendings.iter().all(|sending| matches!(sending, Sending::Uncertain(_)));
        let reason = reasons(sendings);
        if nothing_to_repeat {
            let reason = format!("{reason}; not sent again, since it may have arrived");
            return self.give_up(channels, reason, "without a further attempt").await;
        }
        if self.failed_before + 1 >= MAX_ATTEMPTS {
            return self.give_up(channels, reason, "after max retries").await;
        }
        self.retry(channels, reason).await
    }

    async fn sent(&self, channels: Vec<ChannelDelivery>) -> Result<Delivery, StoreError> {
        let reminder = &self.begun.reminder;
        let id = reminder.id;
        let Some(at) = self.record(channels, Some(Outcome::Sent)).await? else {
            return why_not(self.companion, id, self.now()).await;
        };
        let latency = at - reminder.utc_ts;
        log::info!(reminder_id:% = id, correlation_id = reminder.correlation_id,
            latency_ms = latency.num_milliseconds(); "Reminder {id} sent");
        Ok(Delivery::Sent)
    }

    async fn retry(&self, channels: Vec<ChannelDelivery>, reason: String) -> Result<Delivery, StoreError> {
        let (reminder, attempt) = (&self.begun.reminder, self.failed_before + 1);
        let after = backoff(self.companion.settings.reminder_retry, self.failed_before);
        let outcome = Outcome::Retry { attempts: attempt.cast_signed(), after, overdue: OVERDUE };
        if self.record(channels, Some(outcome)).await?.is_none() {
            return why_not(self.companion, reminder.id, self.now()).await;
        }
        let seconds = after.as_secs();
        log::warn!(reminder_id:% = reminder.id, attempt, correlation_id = reminder.correlation_id;
            "Retrying reminder {} (attempt {attempt}/{MAX_ATTEMPTS}) in {seconds}s due to: {reason}", reminder.id);
        Ok(Delivery::Retry { attempt, after, reason })
    }

    async fn give_up(
        &self,
        channels: Vec<ChannelDelivery>,
        reason: String,
        how: &str,
    ) -> Result<Delivery, StoreError> {
        let (reminder, attempt) = (&self.begun.reminder, self.failed_before + 1);
        let outcome =
            Outcome::Failed { attempts: attempt.cast_signed(), job_name: DELIVER, reason: reason.clone() };
        if self.record(channels, Some(outcome)).await?.is_none() {
            return why_not(self.companion, reminder.id, self.now()).await;
        }
        log::error!(reminder_id:% = reminder.id, attempt, correlation_id = reminder.correlation_id;
            "Reminder {} failed {how}: {reason}", reminder.id);
        Ok(Delivery::Failed { reason })
    }

    /// Records what came of it, and waits for the database if it is away: nobody else knows.
    async fn record(
        &self,
        channels: Vec<ChannelDelivery>,
        outcome: Option<Outcome>,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let (reminder, token) = (self.begun.reminder.id, self.begun.delivery_token);
        let ended = Ended { reminder, token, channels, outcome };
        let started = Instant::now();
        loop {
            match self.companion.desk.end(ended.clone()).await {
                Err(error) if error.is_retryable() && started.elapsed() < RECORDING => {
                    tokio::time::sleep(RECORDING_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    /// A time at which the reminder is due.
    fn now(&self) -> DateTime<Utc> {
        self.begun.reminder.utc_ts.max(Utc::now())
    }
}

fn recorded(channel: &Channel, sending: &Sending) -> ChannelDelivery {
    let status = match sending {
        Sending::Delivered => ChannelStatus::Delivered,
        Sending::NotDelivered(_) => ChannelStatus::Failed,
        Sending::Uncertain(_) => ChannelStatus::Uncertain,
    };
    ChannelDelivery { channel: channel.name().to_owned(), status }
}

/// Nothing is left to do for a reminder that is gone or not scheduled, so its message in the outbox is settled.
async fn why_not(companion: &Companion, id: Uuid, now: DateTime<Utc>) -> Result<Delivery, StoreError> {
    let store = &companion.store;
    Ok(match store.reminder(id).await? {
        None => {
            store.settle_delivery(id).await?;
            Delivery::NotFound
        }
        Some(reminder) if reminder.status != ReminderStatus::Scheduled => {
            store.settle_delivery(id).await?;
            Delivery::NotScheduled(reminder.status)
        }
        Some(reminder) if reminder.utc_ts > now => {
            store.defer_delivery(id, reminder.utc_ts + OVERDUE).await?;
            Delivery::NotDue { due: reminder.utc_ts }
        }
        Some(reminder) => Delivery::Busy { until: reminder.delivery_until.unwrap_or(now) },
    })
}

/// `min(first * 2^retries, 1 h)`.
fn backoff(first: Duration, retries: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(retries)).min(LONGEST_RETRY)
}

fn reasons(sendings: Vec<Sending>) -> String {
    let texts: Vec<String> = sendings
        .into_iter()
        .filter_map(|sending| match sending {
            Sending::NotDelivered(reason) | Sending::Uncertain(reason) => Some(reason),
            Sending::Delivered => None,
        })
        .collect();
    match texts.is_empty() {
        true => "no configured channel reaches the user; set RESEND_API_KEY, or have the app register a push token"
            .to_owned(),
        false => texts.join("; "),
    }
}
