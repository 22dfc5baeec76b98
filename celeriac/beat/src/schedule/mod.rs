//! When an entry runs: intervals, crontabs and solar events as Celery computes them (`celery/schedules.py`, celery 5.7),
//! points in time, recurrence rules.

mod clocked;
mod cron_field;
mod crontab;
mod definition;
mod interval;
mod recurrence;
mod solar;
mod sun;
mod wall_clock;

use std::time::Duration;

use celeriac::Timezone;
use chrono::{DateTime, TimeDelta, Utc};

pub use clocked::Clocked;
pub use cron_field::{CronField, CronFieldError};
pub use crontab::{Crontab, CrontabError};
pub use definition::ScheduleError;
pub use interval::Interval;
pub use recurrence::{Rrule, RruleError};
pub use solar::{Solar, SolarError, SolarEvent};

/// What a schedule is computed under: the app's settings.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Setting `timezone`.
    pub timezone: Timezone,
    /// Setting `beat_cron_starting_deadline`: how late a missed crontab run may be and still be sent.
    pub cron_starting_deadline: Option<Duration>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { timezone: Timezone::UTC, cron_starting_deadline: None }
    }
}

/// Whether an entry is to run now, and when to look again; Celery's `schedstate`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Whether it is to run now.
    pub is_due: bool,
    /// Time from now to the next run, or to the next look; `None` when it never runs again.
    pub next: Option<TimeDelta>,
}

/// When an entry runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// Every so many seconds.
    Interval(Interval),
    /// At matching minutes.
    Crontab(Box<Crontab>),
    /// At an event of the sun.
    Solar(Solar),
    /// Once.
    Clocked(Clocked),
    /// At the occurrences of recurrence rules.
    Rrule(Box<Rrule>),
}

impl Schedule {
    /// Whether a run is due at `now`, when the last one was at `last_run_at`. However many runs were missed, one is due.
    pub fn is_due(&self, last_run_at: DateTime<Utc>, now: DateTime<Utc>, terms: &Terms) -> State {
        match self {
            Schedule::Interval(interval) => interval.is_due(last_run_at, now, terms.timezone),
            Schedule::Crontab(crontab) => crontab.is_due(last_run_at, now, terms),
            Schedule::Solar(_) | Schedule::Clocked(_) | Schedule::Rrule(_) => {
                state_of(self.next_after(last_run_at, terms.timezone), now, || {
                    self.next_after(now, terms.timezone)
                })
            }
        }
    }

    /// The first run after an instant, when the last one was at that instant; `None` when there is none.
    pub fn next_after(&self, last: DateTime<Utc>, zone: Timezone) -> Option<DateTime<Utc>> {
        match self {
            Schedule::Interval(interval) => Some(interval.next_after(last, zone)),
            Schedule::Crontab(crontab) => Some(crontab.next_after(last, zone)),
            Schedule::Solar(solar) => Some(solar.next_after(last)),
            Schedule::Clocked(clocked) => clocked.next_after(last),
            Schedule::Rrule(rrule) => rrule.next_after(last),
        }
    }

    /// Whether RedBeat has a form for it.
    pub fn is_redbeat(&self) -> bool {
        match self {
            Schedule::Interval(_) | Schedule::Crontab(_) => true,
            Schedule::Rrule(rrule) => rrule.is_redbeat(),
            Schedule::Solar(_) | Schedule::Clocked(_) => false,
        }
    }

    /// An interval of so many seconds.
    pub fn every(period: Duration) -> Self {
        Schedule::Interval(Interval::new(period))
    }
}

/// The state of a schedule whose next run after the last one is at `next`, and after now at `following`.
fn state_of(
    next: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    following: impl FnOnce() -> Option<DateTime<Utc>>,
) -> State {
    match next {
        None => State { is_due: false, next: None },
        Some(next) if next > now => State { is_due: false, next: Some(next - now) },
        Some(_) => State { is_due: true, next: following().map(|next| (next - now).max(TimeDelta::zero())) },
    }
}

/// As a chrono difference; what is too long counts as a thousand years.
pub(crate) fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::days(365_000)).min(TimeDelta::days(365_000))
}
