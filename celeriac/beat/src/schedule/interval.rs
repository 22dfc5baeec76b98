//! Every so many seconds.

use std::time::Duration;

use celeriac::Timezone;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Timelike, Utc};

use super::wall_clock::{instant, instants, wall};
use super::{State, delta};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Runs every so many seconds after the last run.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// The time between runs.
    pub every: Duration,
    /// Whether runs are at full seconds, minutes, hours or days of the wall clock, by the size of the interval.
    pub relative: bool,
}

impl Interval {
    /// An interval counted from the last run.
    pub fn new(every: Duration) -> Self {
        Self { every, relative: false }
    }

    pub(super) fn is_due(&self, last_run_at: DateTime<Utc>, now: DateTime<Utc>, zone: Timezone) -> State {
        let end = self.end(last_run_at, zone);
        if end > now {
            return State { is_due: false, next: Some(end - now) };
        }
        State { is_due: true, next: Some(self.next_after(now, zone) - now) }
    }

    pub(super) fn next_after(&self, last: DateTime<Utc>, zone: Timezone) -> DateTime<Utc> {
        let end = self.end(last, zone);
        // A rounded end may be no later than its start, as with intervals below a second.
        if end > last { end } else { last + delta(self.every) }
    }

    fn end(&self, start: DateTime<Utc>, zone: Timezone) -> DateTime<Utc> {
        if self.relative { self.rounded_end(start, zone) } else { start + delta(self.every) }
    }

    /// The last boundary of the wall clock at or before the end, but behind the start.
    ///
    /// Source: `remaining` in `celery/utils/time.py`, celery 5.7: days are calendar days, shorter intervals are counted
    /// on the absolute time line; a boundary that occurs twice counts twice.
    fn rounded_end(&self, start: DateTime<Utc>, zone: Timezone) -> DateTime<Utc> {
        let every = delta(self.every);
        if self.every >= DAY {
            let end = wall(start, zone) + every;
            let midnights = instants(self.round(end), zone);
            return midnights
                .into_iter()
                .filter(|time| *time > start)
                .min()
                .unwrap_or_else(|| instant(end, zone));
        }
        let end = start + every;
        let end_wall = wall(end, zone);
        let mut candidates = instants(self.round(end_wall), zone).to_vec();
        let latest =
            |candidates: &[DateTime<Utc>]| candidates.iter().copied().filter(|time| *time <= end).max();
        let rounded = latest(&candidates).or_else(|| candidates.iter().copied().min()).unwrap_or(end);
        if self.every < MINUTE || rounded > start {
            return rounded;
        }
        // Where the clock is put back by a part of an hour, the boundary may lie before the start: take the next one.
        let unit = TimeDelta::seconds(if self.every >= HOUR { 3600 } else { 60 });
        candidates.extend(instants(self.round(end_wall + unit), zone));
        candidates.extend(instants(self.round(wall(start, zone) + every), zone));
        candidates.retain(|time| *time > start);
        latest(&candidates).or_else(|| candidates.iter().copied().min()).unwrap_or(end)
    }

    /// Rounds down to the resolution of the interval.
    fn round(&self, time: NaiveDateTime) -> NaiveDateTime {
        let date = time.date();
        let (hour, minute, second) = match self.every {
            every if every >= DAY => (0, 0, 0),
            every if every >= HOUR => (time.hour(), 0, 0),
            every if every >= MINUTE => (time.hour(), time.minute(), 0),
            _ => (time.hour(), time.minute(), time.second()),
        };
        date.and_hms_opt(hour, minute, second).unwrap_or(time)
    }
}
