//! One statement a delivery: SQLite runs in the process, so only the commit costs anything.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::{SqlitePool, types::Json};
use std::time::Duration;
use uuid::Uuid;

use super::{Begun, ChannelDelivery, ChannelStatus, Ended, Outcome, Wanted};
use crate::store::{
    BeginWrite, host_now,
    outbox::{Outbox, key},
};

const BEGIN: &str = concat!(
    "UPDATE reminders SET delivery_token = $2, last_attempt_at = $3, delivery_until = $4 \
    WHERE id = $1 AND status = 'scheduled' AND utc_ts <= $5 \
      AND (delivery_until IS NULL OR delivery_until <= $3) RETURNING ",
    reminder_columns!(""),
    ", delivery_token, '' AS email, NULL AS push_token"
);
const USER: &str = "SELECT email, push_token FROM users WHERE id = $1";
const BEFORE: &str =
    "SELECT channel, status, uncertain_at IS NOT NULL FROM reminder_deliveries WHERE reminder_id = $1";
const BEGIN_CHANNEL: &str = "INSERT INTO reminder_deliveries (reminder_id, channel, status, started_at, uncertain_at) \
    VALUES ($1, $2, 'sending', $3, $4) \
    ON CONFLICT (reminder_id, channel) DO UPDATE SET status = 'sending', finished_at = NULL, \
        uncertain_at = coalesce(reminder_deliveries.uncertain_at, excluded.uncertain_at), \
        started_at = CASE WHEN excluded.uncertain_at IS NULL THEN excluded.started_at \
            ELSE reminder_deliveries.started_at END \
    WHERE reminder_deliveries.status <> 'delivered'";
const END_CHANNEL: &str = "UPDATE reminder_deliveries SET status = $3, finished_at = $4, uncertain_at = $5 \
    WHERE reminder_id = $1 AND channel = $2 AND status <> 'delivered'";
const SENT: &str = "UPDATE reminders SET status = 'sent', sent_at = $3, delivery_until = NULL \
    WHERE id = $1 AND delivery_token = $2 AND status = 'scheduled'";
const RETRY: &str = "UPDATE reminders \
    SET delivery_attempts = $3, delivery_token = NULL, delivery_until = NULL, claimed_until = $4 \
    WHERE id = $1 AND delivery_token = $2 AND status = 'scheduled'";
const FAILED: &str = "UPDATE reminders SET status = 'error', delivery_attempts = $3, delivery_until = NULL \
    WHERE id = $1 AND delivery_token = $2 AND status = 'scheduled'";
const INSERT_FAILED_JOB: &str = "INSERT INTO failed_jobs \
    (id, job_name, payload, error_message, attempts, last_error_at, created_at, updated_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $6, $6)";
const UPDATE_FAILED_JOB: &str = "UPDATE failed_jobs \
    SET error_message = $2, attempts = attempts + $3, last_error_at = $4, updated_at = $4 \
    WHERE resolved_at IS NULL AND payload ->> 'reminder_id' = $1";
const CLOSE_FAILED_JOBS: &str = "UPDATE failed_jobs SET resolved_at = $2, resolution = 'sent', updated_at = $2 \
    WHERE resolved_at IS NULL AND payload ->> 'reminder_id' = $1";

pub(super) async fn begin(
    pool: &SqlitePool,
    wanted: &[Wanted],
    plan: &(dyn Fn(&Begun) -> Vec<ChannelDelivery> + Send + Sync),
) -> Result<Vec<Begun>, sqlx::Error> {
    let mut tx = pool.begin_write().await?;
    let now = host_now();
    let mut all = Vec::new();
    for wanted in wanted {
        let query = sqlx::query_as(BEGIN).bind(wanted.reminder).bind(wanted.token).bind(now);
        let query = query.bind(later(now, wanted.lease)).bind(wanted.due_at);
        let begun: Option<Begun> = query.fetch_optional(&mut *tx).await?;
        let Some(mut begun) = begun else { continue };
        (begun.email, begun.push_token) =
            sqlx::query_as(USER).bind(begun.reminder.user_id).fetch_one(&mut *tx).await?;
        let before: Vec<(String, String, bool)> =
            sqlx::query_as(BEFORE).bind(wanted.reminder).fetch_all(&mut *tx).await?;
        begun.before = before
            .into_iter()
            .map(|(channel, status, is_uncertain)| {
                let status = ChannelStatus::from_columns(&status, is_uncertain);
                ChannelDelivery { channel, status }
            })
            .collect();
        for planned in plan(&begun) {
            let uncertain_at = (planned.status == ChannelStatus::Uncertain).then_some(now);
            let query = sqlx::query(BEGIN_CHANNEL).bind(wanted.reminder).bind(planned.channel);
            query.bind(now).bind(uncertain_at).execute(&mut *tx).await?;
        }
        all.push(begun);
    }
    tx.commit().await?;
    Ok(all)
}

pub(super) async fn end(
    pool: &SqlitePool,
    ended: &[Ended],
) -> Result<(Vec<Uuid>, DateTime<Utc>), sqlx::Error> {
    let mut tx = pool.begin_write().await?;
    let now = host_now();
    let mut recorded = Vec::new();
    for Ended { reminder, token, channels, outcome } in ended {
        for ChannelDelivery { channel, status } in channels {
            let uncertain_at = (*status == ChannelStatus::Uncertain).then_some(now);
            let finished_at = uncertain_at.is_none().then_some(now);
            let query = sqlx::query(END_CHANNEL).bind(reminder).bind(channel).bind(status.name());
            query.bind(finished_at).bind(uncertain_at).execute(&mut *tx).await?;
        }
        let id = reminder.to_string();
        let query = match outcome {
            None => continue,
            Some(Outcome::Sent) => sqlx::query(SENT).bind(reminder).bind(token).bind(now),
            Some(Outcome::Retry { attempts, after, overdue }) => {
                let until = later(now, *after + *overdue);
                sqlx::query(RETRY).bind(reminder).bind(token).bind(attempts).bind(until)
            }
            Some(Outcome::Failed { attempts, .. }) => {
                sqlx::query(FAILED).bind(reminder).bind(token).bind(attempts)
            }
        };
        if query.execute(&mut *tx).await?.rows_affected() == 0 {
            continue;
        }
        recorded.push(*reminder);
        match outcome {
            None => {}
            Some(Outcome::Sent) => {
                sqlx::query(CLOSE_FAILED_JOBS).bind(id).bind(now).execute(&mut *tx).await?;
                tx.settle(&[key(*reminder)]).await?;
            }
            Some(Outcome::Retry { after, overdue, .. }) => {
                tx.defer(&[(key(*reminder), later(now, *after + *overdue))]).await?;
            }
            Some(Outcome::Failed { attempts, job_name, reason }) => {
                tx.settle(&[key(*reminder)]).await?;
                // The row of a reminder that failed before, and was queued again, is still open.
                let query = sqlx::query(UPDATE_FAILED_JOB).bind(id).bind(reason).bind(attempts).bind(now);
                if query.execute(&mut *tx).await?.rows_affected() > 0 {
                    continue;
                }
                let payload = Json(json!({ "reminder_id": reminder }));
                let query = sqlx::query(INSERT_FAILED_JOB).bind(Uuid::new_v4()).bind(job_name).bind(payload);
                query.bind(reason).bind(attempts).bind(now).execute(&mut *tx).await?;
            }
        }
    }
    tx.commit().await?;
    Ok((recorded, now))
}

fn later(from: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(by)
        .ok()
        .and_then(|by| from.checked_add_signed(by))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}
