//! Tables and times for people.

use std::fmt;

use celeriac::Timezone;
use chrono::{DateTime, Offset, TimeDelta, TimeZone, Utc};

use crate::entry::Outcome;
use crate::schedule::Schedule;

/// Rows under a header, in columns as wide as they need.
pub(super) struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(super) fn new(header: [&str; COLUMNS]) -> Self {
        Self { rows: vec![header.map(str::to_owned)] }
    }

    pub(super) fn row(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row);
    }
}

impl<const COLUMNS: usize> fmt::Display for Table<COLUMNS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A time on the clock of a zone.
pub(super) fn moment(time: DateTime<Utc>, zone: Timezone) -> String {
    time.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// Seconds by which the clock of a zone is ahead of UTC.
pub(super) fn offset(time: DateTime<Utc>, zone: Timezone) -> i32 {
    zone.offset_from_utc_datetime(&time.naive_utc()).fix().local_minus_utc()
}

/// How long ago something was.
pub(super) fn ago(time: TimeDelta) -> String {
    match time.num_seconds() {
        seconds if seconds < 0 => "in the future".to_owned(),
        seconds if seconds < 120 => format!("{seconds} s ago"),
        seconds if seconds < 7200 => format!("{} min ago", seconds / 60),
        seconds if seconds < 172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

/// A schedule in a few words.
pub(super) fn describe(schedule: &Schedule) -> String {
    match schedule {
        Schedule::Interval(interval) => {
            let relative = if interval.relative { " (relative)" } else { "" };
            format!("every {} s{relative}", interval.every.as_secs_f64())
        }
        Schedule::Crontab(crontab) => {
            let fields = crontab.fields();
            let text = |name: &str| {
                let field = fields
                    .iter()
                    .find(|(field, _)| *field == name)
                    .map(|(_, field)| field.original().clone());
                match field.unwrap_or_default() {
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                }
            };
            ["minute", "hour", "day_of_month", "month_of_year", "day_of_week"].map(text).join(" ")
        }
        Schedule::Solar(solar) => {
            let (event, latitude, longitude) = solar.parts();
            format!("{event} at {latitude}, {longitude}")
        }
        Schedule::Clocked(clocked) => format!("once at {}", clocked.at.to_rfc3339()),
        Schedule::Rrule(_) => "recurrence rule".to_owned(),
    }
}

/// An outcome in a word.
pub(super) fn shown(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Running => "running",
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Unknown => "unknown",
    }
}
