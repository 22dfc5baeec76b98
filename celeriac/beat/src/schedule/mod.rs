//! When an entry runs: intervals, crontabs and solar events, as Celery computes them (`celery/schedules.py`, celery 5.7).

mod cron_field;
mod crontab;
mod definition;
mod interval;
mod solar;
mod sun;
mod wall_clock;

use std::time::Duration;

use celeriac::Timezone;
use chrono::{DateTime, TimeDelta, Utc};

pub use cron_field::{CronField, CronFieldError};
pub use crontab::{Crontab, CrontabError};
pub use definition::ScheduleError;
pub use interval::Interval;
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
    /// Time from now to the next run, or to the next look.
    pub next: TimeDelta,
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
}

impl Schedule {
    /// Whether a run is due at `now`, when the last one was at `last_run_at`. However many runs were missed, one is due.
    pub fn is_due(&self, last_run_at: DateTime<Utc>, now: DateTime<Utc>, terms: &Terms) -> State {
        match self {
            Schedule::Interval(interval) => interval.is_due(last_run_at, now, terms.timezone),
            Schedule::Crontab(crontab) => crontab.is_due(last_run_at, now, terms),
            Schedule::Solar(solar) => solar.is_due(last_run_at, now),
        }
    }

    /// An interval of so many seconds.
    pub fn every(period: Duration) -> Self {
        Schedule::Interval(Interval::new(period))
    }
}

/// The state of a schedule whose next run after the last one is at `next`, and after now at `following`.
fn state_of(next: DateTime<Utc>, now: DateTime<Utc>, following: impl FnOnce() -> DateTime<Utc>) -> State {
    if next > now {
        return State { is_due: false, next: next - now };
    }
    State { is_due: true, next: (following() - now).max(TimeDelta::zero()) }
}

/// As a chrono difference; what is too long counts as a thousand years.
fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::days(365_000)).min(TimeDelta::days(365_000))
}
