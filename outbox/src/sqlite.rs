//! The table on SQLite. Times are those of this host.
//!
//! One statement a message: SQLite runs in the process, so only the commit costs anything, and that is one a transaction.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde_json::Value;
use sqlx::{Connection, SqliteConnection, types::Json};
use uuid::Uuid;

use crate::message::without_repeated_keys;
use crate::{Message, Outgoing};

/// Makes the table on SQLite. Uuids are blobs, times are texts in UTC.
pub const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS outbox_messages (
    id blob PRIMARY KEY,
    key text UNIQUE,
    signature text NOT NULL,
    eta text,
    publish_at text NOT NULL,
    publications integer NOT NULL DEFAULT 0,
    created_at text NOT NULL
);
CREATE INDEX IF NOT EXISTS ix_outbox_messages_publish_at ON outbox_messages (publish_at);
";

const ADD: &str = "INSERT INTO outbox_messages (id, key, signature, eta, publish_at, created_at) \
    VALUES ($1, $2, $3, $4, $5, $6) \
    ON CONFLICT (key) DO UPDATE SET id = excluded.id, signature = excluded.signature, eta = excluded.eta, \
        publish_at = excluded.publish_at \
    WHERE outbox_messages.publications = 0 AND outbox_messages.publish_at > $7";
const SETTLE: &str = "DELETE FROM outbox_messages WHERE key = $1";
const DEFER: &str = "UPDATE outbox_messages SET publish_at = $2 WHERE key = $1";
const OVERDUE: &str = "SELECT count(*) FROM outbox_messages WHERE publish_at <= $1";
const NEXT: &str = "SELECT id, signature, publish_at FROM outbox_messages WHERE publish_at <= $1 \
    ORDER BY publish_at LIMIT $2";
const SET_TIME: &str = "UPDATE outbox_messages SET publish_at = $2 WHERE id = $1";
const FORGET: &str = "DELETE FROM outbox_messages WHERE id = $1 AND key IS NULL";
const ETA: &str = "SELECT eta FROM outbox_messages WHERE id = $1";
const PUBLISHED: &str =
    "UPDATE outbox_messages SET publications = publications + 1, publish_at = $2 WHERE id = $1";
const REPUBLISH_ALL: &str =
    "UPDATE outbox_messages SET publish_at = $1, publications = 0 WHERE publications > 0";

/// Begins a transaction that may write, unless one is under way.
macro_rules! in_transaction {
    ($connection:ident => $body:expr) => {{
        let mut tx = $connection.begin().await?;
        let $connection = &mut *tx;
        let result = $body;
        tx.commit().await?;
        result
    }};
}

fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

fn later(from: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(by)
        .ok()
        .and_then(|by| from.checked_add_signed(by))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Adds messages and returns how many. One whose key is waiting already is not added; it takes the place of the waiting
/// one if that was never published and is to be published more than a minute later.
///
/// # Errors
/// [`sqlx::Error`] when the database fails.
pub async fn add(connection: &mut SqliteConnection, messages: &[Message]) -> Result<u64, sqlx::Error> {
    let now = now();
    Ok(in_transaction!(connection => {
        let mut added = 0;
        for message in without_repeated_keys(messages) {
            let at = message.publish_at.unwrap_or(now);
            let query = sqlx::query(ADD)
                .bind(message.id)
                .bind(&message.key)
                .bind(Json(message.signature()))
                .bind(message.eta)
                .bind(at)
                .bind(now)
                .bind(later(at.max(now), Duration::from_secs(60)));
            added += query.execute(&mut *connection).await?.rows_affected();
        }
        added
    }))
}

/// Removes the messages of these keys, whether they were published or not, and returns how many there were.
///
/// # Errors
/// [`sqlx::Error`] when the database fails.
pub async fn settle(connection: &mut SqliteConnection, keys: &[String]) -> Result<u64, sqlx::Error> {
    Ok(in_transaction!(connection => {
        let mut settled = 0;
        for key in keys {
            settled += sqlx::query(SETTLE).bind(key).execute(&mut *connection).await?.rows_affected();
        }
        settled
    }))
}

/// Has the messages of these keys not published again before the time that stands beside each.
///
/// # Errors
/// [`sqlx::Error`] when the database fails.
pub async fn defer(
    connection: &mut SqliteConnection,
    keys: &[(String, DateTime<Utc>)],
) -> Result<(), sqlx::Error> {
    in_transaction!(connection => {
        for (key, until) in keys {
            sqlx::query(DEFER).bind(key).bind(until).execute(&mut *connection).await?;
        }
    });
    Ok(())
}

/// Returns how many messages should have been published by now.
///
/// # Errors
/// [`sqlx::Error`] when the database fails.
pub async fn overdue(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(OVERDUE).bind(now()).fetch_one(connection).await
}

/// Takes up to `limit` messages that are to be published by now, the most overdue first.
pub(crate) async fn take(
    connection: &mut SqliteConnection,
    limit: i64,
    lease: Duration,
) -> Result<Vec<Outgoing>, sqlx::Error> {
    // A relay that finds nothing must not wait for the one writer that SQLite allows.
    if overdue(connection).await? == 0 {
        return Ok(Vec::new());
    }
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let now = now();
    let query = sqlx::query_as(NEXT).bind(now).bind(limit);
    let rows: Vec<(Uuid, Json<Value>, DateTime<Utc>)> = query.fetch_all(&mut *tx).await?;
    for (id, ..) in &rows {
        sqlx::query(SET_TIME).bind(id).bind(later(now, lease)).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    let outgoing = |(id, Json(signature), publish_at)| Outgoing { id, signature, publish_at };
    Ok(rows.into_iter().map(outgoing).collect())
}

/// Records that messages were published: those without a key are removed.
pub(crate) async fn published(
    connection: &mut SqliteConnection,
    ids: &[Uuid],
    republish_after: Duration,
) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let now = now();
    for id in ids {
        sqlx::query(FORGET).bind(id).execute(&mut *tx).await?;
        let eta: Option<Option<DateTime<Utc>>> =
            sqlx::query_scalar(ETA).bind(id).fetch_optional(&mut *tx).await?;
        let again = later(eta.flatten().unwrap_or(now).max(now), republish_after);
        sqlx::query(PUBLISHED).bind(id).bind(again).execute(&mut *tx).await?;
    }
    tx.commit().await
}

/// Gives messages back that were taken, to be published after that time.
pub(crate) async fn give_back(
    connection: &mut SqliteConnection,
    ids: &[Uuid],
    after: Duration,
) -> Result<(), sqlx::Error> {
    let at = later(now(), after);
    in_transaction!(connection => {
        for id in ids {
            sqlx::query(SET_TIME).bind(id).bind(at).execute(&mut *connection).await?;
        }
    });
    Ok(())
}

/// Has all messages published again that were published and not settled, and returns how many there are.
pub(crate) async fn republish_all(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    Ok(sqlx::query(REPUBLISH_ALL).bind(now()).execute(connection).await?.rows_affected())
}
