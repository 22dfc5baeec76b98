//! Rows of django-celery-beat as entries.

use celeriac::Timezone;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::connection::Texts;
use crate::entry::Entry;
use crate::schedule::{Clocked, Schedule};

/// All entries with their schedules, each column as a text.
pub(super) fn select(is_postgres: bool) -> String {
    let text = |column: &str| format!("CAST({column} AS TEXT)");
    let time = |column: &str| {
        if is_postgres {
            format!("TO_CHAR({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')")
        } else {
            text(column)
        }
    };
    let number = |column: &str| format!("CAST(CAST({column} AS INTEGER) AS TEXT)");
    let columns = [
        text("p.id"),
        text("p.name"),
        text("p.task"),
        text("p.args"),
        text("p.kwargs"),
        text("p.queue"),
        text("p.exchange"),
        text("p.routing_key"),
        text("p.headers"),
        text("p.priority"),
        time("p.expires"),
        text("p.expire_seconds"),
        number("p.one_off"),
        time("p.start_time"),
        number("p.enabled"),
        time("p.last_run_at"),
        text("p.total_run_count"),
        time("p.date_changed"),
        text("i.every"),
        text("i.period"),
        text("c.minute"),
        text("c.hour"),
        text("c.day_of_week"),
        text("c.day_of_month"),
        text("c.month_of_year"),
        text("c.timezone"),
        text("s.event"),
        text("s.latitude"),
        text("s.longitude"),
        time("k.clocked_time"),
    ];
    format!(
        "SELECT {} FROM django_celery_beat_periodictask p \
         LEFT JOIN django_celery_beat_intervalschedule i ON i.id = p.interval_id \
         LEFT JOIN django_celery_beat_crontabschedule c ON c.id = p.crontab_id \
         LEFT JOIN django_celery_beat_solarschedule s ON s.id = p.solar_id \
         LEFT JOIN django_celery_beat_clockedschedule k ON k.id = p.clocked_id \
         ORDER BY p.id",
        columns.join(", ")
    )
}

/// The key of a row, and its entry.
///
/// # Errors
/// What is wrong with the row, as a sentence.
pub(super) fn read(row: &Texts, now: DateTime<Utc>) -> Result<(i64, Entry), String> {
    let text = |column: usize| row.get(column).and_then(Option::as_deref).filter(|text| !text.is_empty());
    let time = |column: usize| text(column).and_then(instant);
    let key: i64 = text(0).and_then(|key| key.parse().ok()).ok_or("a row without a key")?;
    let name = text(1).unwrap_or_default();
    let wrong = |reason: &dyn std::fmt::Display| format!("entry {name:?}: {reason}");
    let schedule = schedule(row).ok_or_else(|| wrong(&"it has no schedule"))?;
    let schedule = schedule.map_err(|reason| wrong(&reason))?;
    let mut entry = Entry::new(name, text(2).unwrap_or_default(), schedule);
    let json = |column: usize, default: &str| serde_json::from_str::<Value>(text(column).unwrap_or(default));
    let args = json(3, "[]").map_err(|error| wrong(&format!("args: {error}")))?;
    entry.args = args.as_array().cloned().ok_or_else(|| wrong(&"args is no list"))?;
    let kwargs = json(4, "{}").map_err(|error| wrong(&format!("kwargs: {error}")))?;
    entry.kwargs = kwargs.as_object().cloned().ok_or_else(|| wrong(&"kwargs is no mapping"))?;
    for (column, option) in [(5, "queue"), (6, "exchange"), (7, "routing_key")] {
        if let Some(value) = text(column) {
            entry.options.insert(option.to_owned(), json!(value));
        }
    }
    if let Some(priority) = text(9).and_then(|priority| priority.parse::<i64>().ok()) {
        entry.options.insert("priority".to_owned(), json!(priority));
    }
    let expires = time(10);
    if let Some(seconds) = text(11).and_then(|seconds| seconds.parse::<i64>().ok()) {
        entry.options.insert("expires".to_owned(), json!(seconds));
    } else if let Some(expires) = expires {
        entry.options.insert("expires".to_owned(), json!(expires.to_rfc3339()));
    }
    let headers = json(8, "{}").map_err(|error| wrong(&format!("headers: {error}")))?;
    let mut headers = headers.as_object().cloned().unwrap_or_default();
    headers.insert("periodic_task_name".to_owned(), json!(name));
    entry.options.insert("headers".to_owned(), Value::Object(headers));
    entry.policy.end = expires;
    entry.policy.total_runs = (text(12) == Some("1")).then_some(1);
    entry.policy.start = time(13);
    entry.enabled = text(14) == Some("1");
    entry.timezone = text(25).and_then(|zone| zone.parse::<Timezone>().ok());
    let count = text(16).and_then(|count| count.parse().ok()).unwrap_or(0);
    let last_run_at = match (time(15), &entry.schedule) {
        // Of a clock that went ahead.
        (Some(last), _) => Some(last.min(now)),
        // One that was made after its time runs at once, as with Django.
        (None, Schedule::Clocked(Clocked { at })) => Some(*at - TimeDelta::seconds(1)),
        (None, _) if entry.policy.start.is_some() => None,
        (None, _) => Some(time(17).unwrap_or(now).min(now)),
    };
    entry.remember(last_run_at, count);
    Ok((key, entry))
}

/// The schedule of a row; `None` when it has none.
fn schedule(row: &Texts) -> Option<Result<Schedule, String>> {
    let text = |column: usize| row.get(column).and_then(Option::as_deref);
    let number = |column: usize| text(column).and_then(|number| number.parse::<f64>().ok());
    let value = if let Some(every) = number(18) {
        json!({"every": every, "period": text(19)})
    } else if text(20).is_some() {
        let names = ["minute", "hour", "day_of_week", "day_of_month", "month_of_year"];
        let fields = names.iter().zip(20..).map(|(name, column)| ((*name).to_owned(), json!(text(column))));
        Value::Object(fields.collect::<Map<_, _>>())
    } else if let Some(event) = text(26) {
        json!({"event": event, "lat": number(27), "lon": number(28)})
    } else {
        let at = instant(text(29)?)?;
        return Some(Ok(Schedule::Clocked(Clocked { at })));
    };
    Some(Schedule::from_json(&value).map_err(|error| error.to_string()))
}

/// A time as Django writes it: UTC, with or without fraction.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok().map(|time| time.and_utc())
}

/// A time as Django reads it.
pub(super) fn written(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}
