//! Points in time as callers give them.

use celeriac::prelude::*;
use chrono::{DateTime, NaiveDateTime, Utc};
use companion::store::Store;

/// Returns the given ISO 8601 time, UTC when it has no offset, or the present one by the database's clock.
pub(crate) async fn given_or_now(store: &Store, time: Option<&str>) -> TaskResult<DateTime<Utc>> {
    let Some(text) = time else { return Ok(store.now().await?) };
    DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1))
        .map(|time| time.with_timezone(&Utc))
        .or_else(|_| text.replacen(' ', "T", 1).parse::<NaiveDateTime>().map(|time| time.and_utc()))
        .map_err(|_| {
            TaskError::builtin(
                "ValueError",
                format!("current_time_iso is {text:?}, expected ISO 8601 such as 2026-01-31T08:00:00+00:00"),
            )
        })
}
