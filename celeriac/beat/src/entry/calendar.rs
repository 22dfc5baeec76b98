//! Days on which an entry does not run.

use celeriac::Timezone;
use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, TimeZone, Utc, Weekday};

/// Days on which an entry does not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calendar {
    written: Vec<String>,
    days: Vec<Days>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Days {
    /// From the first to the last.
    Range(NaiveDate, NaiveDate),
    /// Month and day of each year.
    Yearly(u32, u32),
    /// A day of each week.
    Weekly(Weekday),
}

/// A day that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no day such as 2026-12-25, 12-25 (each year), 2026-12-24/2027-01-02 or sat, and no calendar"
)]
pub struct CalendarError(pub String);

impl Calendar {
    /// Reads days: `2026-12-25`, `12-25` of each year, `2026-12-24/2027-01-02` from the first to the last, `sat` of each week.
    ///
    /// # Errors
    /// [`CalendarError`] with the text that is no day.
    pub fn new(days: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, CalendarError> {
        let written: Vec<String> = days.into_iter().map(Into::into).collect();
        let read = |text: &String| Days::read(text.trim()).ok_or_else(|| CalendarError(text.clone()));
        let days = written.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { written, days })
    }

    /// Whether no day is excluded.
    pub fn is_empty(&self) -> bool {
        self.days.is_empty()
    }

    /// The days as they were written.
    pub fn written(&self) -> &[String] {
        &self.written
    }

    /// Whether it holds the day of an instant, in the wall time of a zone.
    pub fn contains(&self, time: DateTime<Utc>, zone: Timezone) -> bool {
        !self.is_empty() && self.holds(time.with_timezone(&zone).date_naive())
    }

    /// The end of the day of an instant.
    pub(super) fn end_of_day(time: DateTime<Utc>, zone: Timezone) -> DateTime<Utc> {
        let tomorrow = time.with_timezone(&zone).date_naive() + TimeDelta::days(1);
        let midnight = tomorrow.and_time(chrono::NaiveTime::MIN);
        let midnight = zone.from_local_datetime(&midnight).earliest().map(|time| time.with_timezone(&Utc));
        midnight.filter(|end| *end > time).unwrap_or(time + TimeDelta::hours(1))
    }

    fn holds(&self, date: NaiveDate) -> bool {
        self.days.iter().any(|days| match days {
            Days::Range(first, last) => (*first..=*last).contains(&date),
            Days::Yearly(month, day) => (date.month(), date.day()) == (*month, *day),
            Days::Weekly(weekday) => date.weekday() == *weekday,
        })
    }
}

impl Days {
    fn read(text: &str) -> Option<Self> {
        let date = |text: &str| NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d").ok();
        if let Some((first, last)) = text.split_once('/') {
            return Some(Days::Range(date(first)?, date(last)?)).filter(|days| match days {
                Days::Range(first, last) => first <= last,
                _ => false,
            });
        }
        if let Some(date) = date(text) {
            return Some(Days::Range(date, date));
        }
        // In a leap year, so that 29 February is one.
        if let Some(date) = date(&format!("2024-{text}")) {
            return Some(Days::Yearly(date.month(), date.day()));
        }
        text.parse().ok().map(Days::Weekly)
    }
}
