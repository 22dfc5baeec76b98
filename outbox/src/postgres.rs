//! The table on PostgreSQL. Times are the server's own.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{Executor, Postgres, types::Json};
use uuid::Uuid;

use crate::message::without_repeated_keys;
use crate::{Message, Outgoing};

/// Makes the table on PostgreSQL.
pub const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS outbox_messages (
    id uuid PRIMARY KEY,
    key varchar(255) UNIQUE,
    signature jsonb NOT NULL,
    eta timestamptz,
    publish_at timestamptz NOT NULL,
    publications integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS ix_outbox_messages_publish_at ON outbox_messages (publish_at);
";

const ADD: &str = "INSERT INTO outbox_messages (id, key, signature, eta, publish_at) \
    SELECT id, key, signature, eta, coalesce(publish_at, now()) \
    FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::timestamptz[], $5::timestamptz[]) \
        AS new (id, key, signature, eta, publish_at) \
    ON CONFLICT (key) DO UPDATE SET id = excluded.id, signature = excluded.signature, eta = excluded.eta, \
        publish_at = excluded.publish_at \
    WHERE outbox_messages.publications = 0 \
        AND outbox_messages.publish_at > greatest(excluded.publish_at, now()) + interval '1 minute'";
const SETTLE: &str = "DELETE FROM outbox_messages WHERE key = ANY($1)";
const DEFER: &str = "UPDATE outbox_messages SET publish_at = later.publish_at \
    FROM unnest($1::text[], $2::timestamptz[]) AS later (key, publish_at) WHERE outbox_messages.key = later.key";
const OVERDUE: &str = "SELECT count(*) FROM outbox_messages WHERE publish_at <= now()";
const TAKE: &str = "WITH next AS MATERIALIZED ( \
        SELECT id, publish_at FROM outbox_messages WHERE publish_at <= now() \
        ORDER BY publish_at LIMIT $1 FOR UPDATE SKIP LOCKED) \
    UPDATE outbox_messages SET publish_at = now() + make_interval(secs => $2) FROM next \
    WHERE outbox_messages.id = next.id RETURNING next.id, outbox_messages.signature, next.publish_at";
const PUBLISHED: &str = "WITH forgotten AS (DELETE FROM outbox_messages WHERE id = ANY($1) AND key IS NULL) \
    UPDATE outbox_messages SET publications = publications + 1, \
        publish_at = greatest(eta, now()) + make_interval(secs => $2) \
    WHERE id = ANY($1) AND key IS NOT NULL";
const GIVE_BACK: &str =
    "UPDATE outbox_messages SET publish_at = now() + make_interval(secs => $2) WHERE id = ANY($1)";
const REPUBLISH_ALL: &str =
    "UPDATE outbox_messages SET publish_at = now(), publications = 0 WHERE publications > 0";

/// Adds messages and returns how many. One whose key is waiting already is not added; it takes the place of the waiting
/// one if that was never published and is to be published more than a minute later.
///
/// # Errors
/// [`sqlx::Error`] when the database fails.
pub async fn add<'e>(
    executor: impl Executor<'e, Database = Postgres>,
    messages: &[Message],
) -> Result<u64, sqlx::Error> {
    let messages: Vec<&Message> = without_repeated_keys(messages).collect();
    let ids: Vec<Uuid> = messages.iter().map(|message| message.id).collect();
    let keys: Vec<Option<String>> = messages.iter().map(|message| message.key.clone()).collect();
    let signatures: Vec<Json<Value>> = messages.iter().map(|message| Json(message.signature())).collect();
    let etas: Vec<Option<DateTime<Utc>>> = messages.iter().map(|message| message.eta).collect();
    let times: Vec<Option<DateTime<Utc>>> = messages.iter().map(|message| message.publish_at).collect();
    let query = sqlx::query(ADD).bind(ids).bind(keys).bind(signatures).bind(etas).bind(times);
    Ok(query.execute(executor).await?.rows_affected())
}

/// Removes the messages of these keys, whether they were published or not, and returns how many there were.
///
/// # Errors
/// [`sqlx::Error`] when the database fails.
pub async fn settle<'e>(
    executor: impl Executor<'e, Database = Postgres>,
    keys: &[String],
) -> Result<u64, sqlx::Error> {
    Ok(sqlx::query(SETTLE).bind(keys.to_vec()).execute(executor).await?.rows_affected())
}

/// Has the messages of these keys not published again before the time that stands beside each.
///
/// # Errors
/// [`sqlx::Error`] when the database fails.
pub async fn defer<'e>(
    executor: impl Executor<'e, Database = Postgres>,
    keys: &[(String, DateTime<Utc>)],
) -> Result<(), sqlx::Error> {
    let (keys, times): (Vec<String>, Vec<DateTime<Utc>>) = keys.iter().cloned().unzip();
    sqlx::query(DEFER).bind(keys).bind(times).execute(executor).await.map(drop)
}

/// Returns how many messages should have been published by now.
///
/// # Errors
/// [`sqlx::Error`] when the database fails.
pub async fn overdue<'e>(executor: impl Executor<'e, Database = Postgres>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(OVERDUE).fetch_one(executor).await
}

/// Takes up to `limit` messages that are to be published by now, the most overdue first.
pub(crate) async fn take<'e>(
    executor: impl Executor<'e, Database = Postgres>,
    limit: i64,
    lease: Duration,
) -> Result<Vec<Outgoing>, sqlx::Error> {
    let query = sqlx::query_as(TAKE).bind(limit).bind(lease.as_secs_f64());
    let rows: Vec<(Uuid, Json<Value>, DateTime<Utc>)> = query.fetch_all(executor).await?;
    let mut taken: Vec<Outgoing> = rows
        .into_iter()
        .map(|(id, Json(signature), publish_at)| Outgoing { id, signature, publish_at })
        .collect();
    taken.sort_by_key(|message| message.publish_at);
    Ok(taken)
}

/// Records that messages were published: those without a key are removed.
pub(crate) async fn published<'e>(
    executor: impl Executor<'e, Database = Postgres>,
    ids: &[Uuid],
    republish_after: Duration,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(PUBLISHED).bind(ids.to_vec()).bind(republish_after.as_secs_f64());
    query.execute(executor).await.map(drop)
}

/// Gives messages back that were taken, to be published after that time.
pub(crate) async fn give_back<'e>(
    executor: impl Executor<'e, Database = Postgres>,
    ids: &[Uuid],
    after: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query(GIVE_BACK).bind(ids.to_vec()).bind(after.as_secs_f64()).execute(executor).await.map(drop)
}

/// Has all messages published again that were published and not settled, and returns how many there are.
pub(crate) async fn republish_all<'e>(
    executor: impl Executor<'e, Database = Postgres>,
) -> Result<u64, sqlx::Error> {
    Ok(sqlx::query(REPUBLISH_ALL).execute(executor).await?.rows_affected())
}
