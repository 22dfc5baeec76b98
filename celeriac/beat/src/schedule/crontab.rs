//! At matching minutes, hours and days.

use celeriac::Timezone;
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Utc};
use serde_json::Value;

use super::cron_field::{CronField, CronFieldError};
use super::wall_clock::{instant, instants, is_put_back_around, wall};
use super::{State, Terms, delta, state_of};

/// The longest time that a zone's clock was ever put back by, and more.
const LONGEST_REPETITION: TimeDelta = TimeDelta::hours(3);

/// Runs at each minute that all five fields match; unlike Vixie cron's, day of month and day of week must both match.
#[derive(Clone, Debug, PartialEq)]
pub struct Crontab {
    minute: CronField,
    hour: CronField,
    day_of_week: CronField,
    day_of_month: CronField,
    month_of_year: CronField,
}

/// A crontab that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CrontabError {
    /// A field is not valid.
    #[error("field {field}: {source}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// Why.
        source: CronFieldError,
    },
    /// No month has such a day.
    #[error("no month of {month_of_year} has a day of {day_of_month}")]
    ImpossibleDate {
        /// The field as written.
        day_of_month: String,
        /// The field as written.
        month_of_year: String,
    },
    /// Not five fields.
    #[error("five fields `minute hour day_of_month month_of_year day_of_week` are expected, not {0:?}")]
    FieldCount(String),
}

impl Crontab {
    /// Makes a crontab of its fields in Celery's order; `null` stands for `*`.
    ///
    /// # Errors
    /// When a field is not valid or the date does not exist.
    pub fn new(
        minute: &Value,
        hour: &Value,
        day_of_week: &Value,
        day_of_month: &Value,
        month_of_year: &Value,
    ) -> Result<Self, CrontabError> {
        let field = |field, spec, range| {
            CronField::parse(spec, range).map_err(|source| CrontabError::Field { field, source })
        };
        let crontab = Self {
            minute: field("minute", minute, 0..=59)?,
            hour: field("hour", hour, 0..=23)?,
            day_of_week: field("day_of_week", day_of_week, 0..=6)?,
            day_of_month: field("day_of_month", day_of_month, 1..=31)?,
            month_of_year: field("month_of_year", month_of_year, 1..=12)?,
        };
        let day = crontab.day_of_month.numbers().first().copied().unwrap_or(1);
        if crontab.month_of_year.numbers().iter().all(|month| day > longest(*month)) {
            return Err(CrontabError::ImpossibleDate {
                day_of_month: crontab.day_of_month.original().to_string(),
                month_of_year: crontab.month_of_year.original().to_string(),
            });
        }
        Ok(crontab)
    }

    /// Reads `minute hour day_of_month month_of_year day_of_week`.
    ///
    /// # Errors
    /// As [`Crontab::new`], and when there are not five fields.
    pub fn from_text(text: &str) -> Result<Self, CrontabError> {
        let fields: Vec<Value> = text.split_whitespace().map(Value::from).collect();
        match fields.as_slice() {
            [minute, hour, day, month, weekday] => Self::new(minute, hour, weekday, day, month),
            _ => Err(CrontabError::FieldCount(text.to_owned())),
        }
    }

    /// The fields under Celery's names.
    pub fn fields(&self) -> [(&'static str, &CronField); 5] {
        [
            ("minute", &self.minute),
            ("hour", &self.hour),
            ("day_of_week", &self.day_of_week),
            ("day_of_month", &self.day_of_month),
            ("month_of_year", &self.month_of_year),
        ]
    }

    /// The first run after an instant, in the wall time of a zone.
    ///
    /// A time that the clock skips in spring runs after the gap, shifted by it. The hour that occurs twice in autumn: an
    /// entry of every hour or of every minute runs through both of them; one of certain times runs at the first occurrence
    /// only. (Celery passes over the second occurrence in both cases, and would send an entry over and over whose last run
    /// fell there; here the next run is always later than the last one.)
    pub fn next_after(&self, last: DateTime<Utc>, zone: Timezone) -> DateTime<Utc> {
        let once = self.next_once(last, zone);
        if self.is_steady() && is_put_back_around(last, zone) {
            return self.next_of_either(last, once, zone);
        }
        once
    }

    /// Whether it runs in every hour, or in every minute of its hours: at a steady pace rather than at certain times.
    fn is_steady(&self) -> bool {
        self.hour.numbers().len() == 24 || self.minute.numbers().len() == 60
    }

    /// The next run that takes a wall time which occurs twice at its first occurrence only.
    fn next_once(&self, last: DateTime<Utc>, zone: Timezone) -> DateTime<Utc> {
        let mut from = wall(last, zone);
        // Only times of an hour that occurs twice are passed over, so that this ends.
        loop {
            let Some(next) = self.next_wall(from) else { return DateTime::<Utc>::MAX_UTC };
            let run = instant(next, zone);
            if run > last {
                return run;
            }
            from = next;
        }
    }

    /// The next run, where a wall time that occurs twice may be one at both.
    fn next_of_either(&self, last: DateTime<Utc>, once: DateTime<Utc>, zone: Timezone) -> DateTime<Utc> {
        let mut from = wall(last, zone) - LONGEST_REPETITION;
        let mut best = once;
        while let Some(next) = self.next_wall(from) {
            let [first, second] = instants(next, zone);
            if first >= best {
                break;
            }
            best = [first, second].into_iter().filter(|run| *run > last).fold(best, DateTime::min);
            from = next;
        }
        best
    }

    pub(super) fn is_due(&self, last_run_at: DateTime<Utc>, now: DateTime<Utc>, terms: &Terms) -> State {
        let next = |last| self.next_after(last, terms.timezone);
        let due = next(last_run_at);
        let state = state_of(Some(due), now, || Some(next(now)));
        // A run of just this moment is never too late.
        let too_late = |deadline| next(now - delta(deadline) - TimeDelta::microseconds(1)) > now;
        let is_due = state.is_due && !(due < now && terms.cron_starting_deadline.is_some_and(too_late));
        State { is_due, ..state }
    }

    /// The first matching wall time whose minute is later than that of `from`.
    fn next_wall(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        if self.matches(from.date())
            && let Some(time) = self.next_time((from.hour(), from.minute()))
        {
            return Some(from.date().and_time(time));
        }
        let first = NaiveTime::from_hms_opt(first(&self.hour), first(&self.minute), 0)?;
        Some(self.next_date(from.date())?.and_time(first))
    }

    fn next_time(&self, (hour, minute): (u32, u32)) -> Option<NaiveTime> {
        let in_this_hour = self.minute.numbers().range(minute + 1..).next();
        if let Some(minute) = in_this_hour.filter(|_| self.hour.contains(hour)) {
            return NaiveTime::from_hms_opt(hour, *minute, 0);
        }
        NaiveTime::from_hms_opt(*self.hour.numbers().range(hour + 1..).next()?, first(&self.minute), 0)
    }

    fn next_date(&self, after: NaiveDate) -> Option<NaiveDate> {
        // A 29 February on one weekday comes once in 40 years at the rarest (over 2100).
        let years = after.year()..=after.year() + 48;
        let months =
            years.flat_map(|year| self.month_of_year.numbers().iter().map(move |month| (year, *month)));
        let days = months.flat_map(|(year, month)| {
            let days = self.day_of_month.numbers().iter();
            days.filter_map(move |day| NaiveDate::from_ymd_opt(year, month, *day))
        });
        days.into_iter()
            .find(|date| *date > after && self.day_of_week.contains(date.weekday().num_days_from_sunday()))
    }

    fn matches(&self, date: NaiveDate) -> bool {
        self.month_of_year.contains(date.month())
            && self.day_of_month.contains(date.day())
            && self.day_of_week.contains(date.weekday().num_days_from_sunday())
    }
}

fn first(field: &CronField) -> u32 {
    field.numbers().first().copied().unwrap_or_default()
}

/// Days of a month, in a leap year.
fn longest(month: u32) -> u32 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
