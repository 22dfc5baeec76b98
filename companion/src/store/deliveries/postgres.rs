//! One statement for all deliveries of a transaction.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use super::{Begun, ChannelDelivery, ChannelStatus, Ended, Outcome, Wanted};
use crate::store::{
    BeginWrite,
    outbox::{Outbox, key},
    postgres::Link,
};

/// Rows are locked in the order of their keys, so that two transactions with the same rows do not block each other.
const BEGIN: &str = concat!(
    "WITH wanted AS ( \
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::float8[]) \
            AS wanted (id, token, due_at, lease)), \
    free AS MATERIALIZED ( \
        SELECT reminders.id FROM reminders JOIN wanted ON wanted.id = reminders.id \
        WHERE status = 'scheduled' AND utc_ts <= wanted.due_at \
          AND (delivery_until IS NULL OR delivery_until <= clock_timestamp()) \
        ORDER BY reminders.id FOR UPDATE OF reminders) \
    UPDATE reminders SET delivery_token = wanted.token, last_attempt_at = clock_timestamp(), \
        delivery_until = clock_timestamp() + make_interval(secs => wanted.lease) \
    FROM wanted, free, users \
    WHERE reminders.id = wanted.id AND reminders.id = free.id AND users.id = reminders.user_id RETURNING ",
    reminder_columns!("reminders."),
    ", reminders.delivery_token, users.email, users.push_token"
);
const BEFORE: &str = "SELECT reminder_id, channel, status, uncertain_at IS NOT NULL FROM reminder_deliveries \
    WHERE reminder_id = ANY($1)";
const BEGIN_CHANNELS: &str = "INSERT INTO reminder_deliveries (reminder_id, channel, status, started_at, uncertain_at) \
    SELECT id, channel, 'sending', clock_timestamp(), CASE WHEN uncertain THEN clock_timestamp() END \
    FROM unnest($1::uuid[], $2::text[], $3::bool[]) AS new (id, channel, uncertain) \
    ON CONFLICT (reminder_id, channel) DO UPDATE SET status = 'sending', finished_at = NULL, \
        uncertain_at = coalesce(reminder_deliveries.uncertain_at, excluded.uncertain_at), \
        started_at = CASE WHEN excluded.uncertain_at IS NULL THEN excluded.started_at \
            ELSE reminder_deliveries.started_at END \
    WHERE reminder_deliveries.status <> 'delivered'";
const END_CHANNELS: &str = "UPDATE reminder_deliveries \
    SET status = ended.status, finished_at = CASE WHEN ended.status <> 'sending' THEN clock_timestamp() END, \
        uncertain_at = CASE WHEN ended.uncertain THEN clock_timestamp() END \
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bool[]) AS ended (id, channel, status, uncertain) \
    WHERE reminder_deliveries.reminder_id = ended.id AND reminder_deliveries.channel = ended.channel \
      AND reminder_deliveries.status <> 'delivered'";
const SENT: &str = "UPDATE reminders SET status = 'sent', sent_at = clock_timestamp(), delivery_until = NULL \
    FROM unnest($1::uuid[], $2::uuid[]) AS ended (id, token) \
    WHERE reminders.id = ended.id AND delivery_token = ended.token AND status = 'scheduled' RETURNING reminders.id";
const RETRY: &str = "UPDATE reminders SET delivery_attempts = ended.attempts, delivery_token = NULL, \
        delivery_until = NULL, claimed_until = clock_timestamp() + make_interval(secs => ended.seconds) \
    FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::float8[]) AS ended (id, token, attempts, seconds) \
    WHERE reminders.id = ended.id AND delivery_token = ended.token AND status = 'scheduled' \
    RETURNING reminders.id, claimed_until";
const FAILED: &str = "UPDATE reminders SET status = 'error', delivery_attempts = ended.attempts, delivery_until = NULL \
    FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS ended (id, token, attempts) \
    WHERE reminders.id = ended.id AND delivery_token = ended.token AND status = 'scheduled' RETURNING reminders.id";
const INSERT_FAILED_JOB: &str = "INSERT INTO failed_jobs \
    (id, job_name, payload, error_message, attempts, last_error_at, created_at, updated_at) \
    VALUES ($1, $2, $3, $4, $5, clock_timestamp(), clock_timestamp(), clock_timestamp())";
const UPDATE_FAILED_JOB: &str = "UPDATE failed_jobs \
    SET error_message = $2, attempts = attempts + $3, last_error_at = clock_timestamp(), updated_at = clock_timestamp() \
    WHERE resolved_at IS NULL AND payload ->> 'reminder_id' = $1";
const CLOSE_FAILED_JOBS: &str = "UPDATE failed_jobs SET resolved_at = clock_timestamp(), resolution = 'sent', updated_at = clock_timestamp() \
    WHERE resolved_at IS NULL AND payload ->> 'reminder_id' = ANY($1)";

pub(super) async fn begin(
    pool: &Link,
    wanted: &[Wanted],
    plan: &(dyn Fn(&Begun) -> Vec<ChannelDelivery> + Send + Sync),
) -> Result<Vec<Begun>, sqlx::Error> {
    let mut tx = pool.begin_write().await?;
    let mut begun: Vec<Begun> = sqlx::query_as(BEGIN)
        .bind(wanted.iter().map(|wanted| wanted.reminder).collect::<Vec<_>>())
        .bind(wanted.iter().map(|wanted| wanted.token).collect::<Vec<_>>())
        .bind(wanted.iter().map(|wanted| wanted.due_at).collect::<Vec<_>>())
        .bind(wanted.iter().map(|wanted| wanted.lease.as_secs_f64()).collect::<Vec<_>>())
        .fetch_all(&mut *tx)
        .await?;
    let ids: Vec<Uuid> = begun.iter().map(|begun| begun.reminder.id).collect();
    let before: Vec<(Uuid, String, String, bool)> =
        sqlx::query_as(BEFORE).bind(ids).fetch_all(&mut *tx).await?;
    for (id, channel, status, is_uncertain) in before {
        if let Some(begun) = begun.iter_mut().find(|begun| begun.reminder.id == id) {
            let status = ChannelStatus::from_columns(&status, is_uncertain);
            begun.before.push(ChannelDelivery { channel, status });
        }
    }
    let planned: Vec<(Uuid, ChannelDelivery)> = begun
        .iter()
        .flat_map(|begun| plan(begun).into_iter().map(|planned| (begun.reminder.id, planned)))
        .collect();
    if !planned.is_empty() {
        sqlx::query(BEGIN_CHANNELS)
            .bind(planned.iter().map(|(id, _)| *id).collect::<Vec<_>>())
            .bind(planned.iter().map(|(_, planned)| planned.channel.clone()).collect::<Vec<_>>())
            .bind(
                planned
                    .iter()
                    .map(|(_, planned)| planned.status == ChannelStatus::Uncertain)
                    .collect::<Vec<_>>(),
            )
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(begun)
}

pub(super) async fn end(pool: &Link, ended: &[Ended]) -> Result<(Vec<Uuid>, DateTime<Utc>), sqlx::Error> {
    let mut tx = pool.begin_write().await?;
    let at: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *tx).await?;
    let channels: Vec<(Uuid, &ChannelDelivery)> = ended
        .iter()
        .flat_map(|ended| ended.channels.iter().map(|channel| (ended.reminder, channel)))
        .collect();
    if !channels.is_empty() {
        let status = |(_, channel): &(Uuid, &ChannelDelivery)| channel.status.name().to_owned();
        let uncertain = |(_, channel): &(Uuid, &ChannelDelivery)| channel.status == ChannelStatus::Uncertain;
        sqlx::query(END_CHANNELS)
            .bind(channels.iter().map(|(id, _)| *id).collect::<Vec<_>>())
            .bind(channels.iter().map(|(_, channel)| channel.channel.clone()).collect::<Vec<_>>())
            .bind(channels.iter().map(status).collect::<Vec<_>>())
            .bind(channels.iter().map(uncertain).collect::<Vec<_>>())
            .execute(&mut *tx)
            .await?;
    }
    let (mut recorded, mut settled) = (Vec::new(), Vec::new());

    let sent = of(ended, |outcome| matches!(outcome, Outcome::Sent).then_some(()));
    if !sent.is_empty() {
        let query = sqlx::query_scalar(SENT).bind(ids(&sent)).bind(tokens(&sent));
        let done: Vec<Uuid> = query.fetch_all(&mut *tx).await?;
        let texts: Vec<String> = done.iter().map(Uuid::to_string).collect();
        sqlx::query(CLOSE_FAILED_JOBS).bind(texts).execute(&mut *tx).await?;
        settled.extend(done);
    }
    let failed = of(ended, |outcome| match outcome {
        Outcome::Failed { attempts, job_name, reason } => Some((*attempts, *job_name, reason.as_str())),
        _ => None,
    });
    if !failed.is_empty() {
        let attempts: Vec<i32> = failed.iter().map(|(_, (attempts, ..))| *attempts).collect();
        let query = sqlx::query_scalar(FAILED).bind(ids(&failed)).bind(tokens(&failed)).bind(attempts);
        let done: Vec<Uuid> = query.fetch_all(&mut *tx).await?;
        for (ended, (attempts, job_name, reason)) in failed {
            if done.contains(&ended.reminder) {
                // The row of a reminder that failed before, and was queued again, is still open.
                let query = sqlx::query(UPDATE_FAILED_JOB).bind(ended.reminder.to_string());
                let query = query.bind(reason).bind(attempts);
                if query.execute(&mut *tx).await?.rows_affected() > 0 {
                    continue;
                }
                let payload: Json<Value> = Json(json!({ "reminder_id": ended.reminder }));
                let query = sqlx::query(INSERT_FAILED_JOB).bind(Uuid::new_v4()).bind(job_name).bind(payload);
                query.bind(reason).bind(attempts).execute(&mut *tx).await?;
            }
        }
        settled.extend(done);
    }
    let again = of(ended, |outcome| match outcome {
        Outcome::Retry { attempts, after, overdue } => Some((*attempts, (*after + *overdue).as_secs_f64())),
        _ => None,
    });
    if !again.is_empty() {
        let attempts: Vec<i32> = again.iter().map(|(_, (attempts, _))| *attempts).collect();
        let seconds: Vec<f64> = again.iter().map(|(_, (_, seconds))| *seconds).collect();
        let query = sqlx::query_as(RETRY).bind(ids(&again)).bind(tokens(&again)).bind(attempts).bind(seconds);
        let done: Vec<(Uuid, DateTime<Utc>)> = query.fetch_all(&mut *tx).await?;
        let later: Vec<(String, DateTime<Utc>)> = done.iter().map(|(id, until)| (key(*id), *until)).collect();
        tx.defer(&later).await?;
        recorded.extend(done.into_iter().map(|(id, _)| id));
    }
    if !settled.is_empty() {
        tx.settle(&settled.iter().copied().map(key).collect::<Vec<_>>()).await?;
        recorded.extend(settled);
    }
    tx.commit().await?;
    Ok((recorded, at))
}

type Picked<'a, T> = Vec<(&'a Ended, T)>;

/// Those of one kind of outcome.
fn of<'a, T>(ended: &'a [Ended], pick: impl Fn(&'a Outcome) -> Option<T>) -> Picked<'a, T> {
    ended.iter().filter_map(|ended| Some((ended, pick(ended.outcome.as_ref()?)?))).collect()
}

fn ids<T>(picked: &Picked<'_, T>) -> Vec<Uuid> {
    picked.iter().map(|(ended, _)| ended.reminder).collect()
}

fn tokens<T>(picked: &Picked<'_, T>) -> Vec<Uuid> {
    picked.iter().map(|(ended, _)| ended.token).collect()
}
