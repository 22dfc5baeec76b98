//! What is to be done with an entry at a time: wait, or send the runs that are due.

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use super::{Calendar, Entry, MissedRuns};
use crate::schedule::{Schedule, Terms, delta};

/// Most missed runs that are counted one by one; further ones are counted by their mean distance.
const COUNTED: usize = 1000;

/// How many days or times in a row a calendar may exclude.
const EXCLUDED: usize = 20_000;

/// A run that is no later than this is not a missed one.
const PUNCTUAL: TimeDelta = TimeDelta::seconds(10);

/// What is to be done with an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing before this time.
    Wait(DateTime<Utc>),
    /// Nothing, ever.
    Over,
    /// Something is due.
    Due(Plan),
}

/// The runs that are due.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The times of the runs that are to be sent, in order.
    pub slots: Vec<DateTime<Utc>>,
    /// Runs that are not to be sent.
    pub missed: Option<Missed>,
    /// When the entry is to be looked at next; `None` when it never runs again.
    pub next: Option<DateTime<Utc>>,
}

/// Runs whose time passed while no beat ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// How many.
    pub count: u64,
    /// The time of the first one.
    pub first: DateTime<Utc>,
    /// The time of the last one.
    pub last: DateTime<Utc>,
}

impl Entry {
    /// What is to be done at `now`. One that never ran is due at once.
    pub fn verdict(&self, now: DateTime<Utc>, terms: &Terms) -> Verdict {
        let policy = &self.policy;
        if policy.total_runs.is_some_and(|runs| self.total_run_count >= runs) {
            return Verdict::Over;
        }
        let terms = &self.terms(terms);
        let last = match self.last_run_at {
            Some(last) => last,
            None if policy.start.is_some_and(|start| start > now) => now,
            None => {
                return Verdict::Due(Plan { slots: vec![now], missed: None, next: self.next(now, terms) });
            }
        };
        match self.next(last, terms) {
            None => Verdict::Over,
            Some(next) if next > now => Verdict::Wait(next),
            Some(first) => Verdict::Due(self.plan(first, now, terms)),
        }
    }

    /// When it is to be looked at: now if it is due; `None` when it never runs again.
    pub fn next_look(&self, now: DateTime<Utc>, terms: &Terms) -> Option<DateTime<Utc>> {
        match self.verdict(now, terms) {
            Verdict::Wait(next) => Some(next),
            Verdict::Over => None,
            Verdict::Due(_) => Some(now),
        }
    }

    /// The next times at which it runs, if it runs at each of them.
    pub fn preview(&self, now: DateTime<Utc>, terms: &Terms, count: usize) -> Vec<DateTime<Utc>> {
        let terms = &self.terms(terms);
        let left = self.policy.total_runs.map_or(count, |runs| {
            usize::try_from(runs.saturating_sub(self.total_run_count)).unwrap_or(count).min(count)
        });
        let first = match self.verdict(now, terms) {
            Verdict::Wait(next) => Some(next),
            Verdict::Over => None,
            Verdict::Due(_) => Some(now),
        };
        std::iter::successors(first, |last| self.next(*last, terms)).take(left).collect()
    }

    /// The times at which it runs from one instant to another; at most so many.
    pub fn slots(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        terms: &Terms,
        limit: usize,
    ) -> Vec<DateTime<Utc>> {
        let terms = &self.terms(terms);
        let first = self.next(from - TimeDelta::microseconds(1), terms);
        let slots = std::iter::successors(first, |last| self.next(*last, terms));
        slots.take_while(|slot| *slot <= to).take(limit).collect()
    }

    /// The runs from the first one that is due to now.
    fn plan(&self, first: DateTime<Utc>, now: DateTime<Utc>, terms: &Terms) -> Plan {
        let wanted = match self.policy.missed {
            MissedRuns::All(limit) => usize::try_from(limit.max(1)).unwrap_or(1),
            MissedRuns::Skip | MissedRuns::Last => 1,
        };
        let mut slots = Vec::new();
        let (mut count, mut slot, mut dropped) = (0, first, None);
        if let (Schedule::Interval(interval), false) = (&self.schedule, self.policy.shapes_times())
            && !interval.relative
        {
            let every = delta(interval.every).num_microseconds().unwrap_or(i64::MAX).max(1);
            let passed = (now - first).num_microseconds().unwrap_or(0) / every - (wanted as i64 - 1);
            count = u64::try_from(passed).unwrap_or(0);
            slot = first + TimeDelta::microseconds(every.saturating_mul(passed.max(0)));
            dropped = (slot > first).then(|| slot - delta(interval.every));
        }
        let mut stretch = (slot, count);
        loop {
            count += 1;
            slots.push(slot);
            if slots.len() > wanted {
                dropped = Some(slots.remove(0));
            }
            let Some(next) = self.next(slot, terms).filter(|next| *next <= now) else { break };
            let counted = count - stretch.1;
            if counted < COUNTED.max(wanted) as u64 {
                slot = next;
                continue;
            }
            let mean = (slot - stretch.0) / i32::try_from(counted - 1).unwrap_or(i32::MAX).max(1);
            slot = self.leap(next, mean, wanted, now, terms).unwrap_or(next);
            count += u64::try_from(
                (slot - next).num_microseconds().unwrap_or(0) / mean.num_microseconds().unwrap_or(1).max(1),
            )
            .unwrap_or(0);
            stretch = (slot, count);
        }
        let known: Vec<DateTime<Utc>> = dropped.into_iter().chain(slots.iter().copied()).collect();
        let window = self.window(terms);
        let punctual = |slot: &DateTime<Utc>| now - *slot <= PUNCTUAL;
        slots.retain(|slot| window.is_none_or(|window| now - *slot <= window));
        if self.policy.missed == MissedRuns::Skip {
            slots.retain(punctual);
        }
        if let Some(runs) = self.policy.total_runs {
            slots.truncate(usize::try_from(runs.saturating_sub(self.total_run_count)).unwrap_or(usize::MAX));
        }
        let missed = count - slots.len() as u64;
        let is_missed = |slot: &&DateTime<Utc>| slots.first().is_none_or(|sent| *slot < sent);
        let last = known.iter().rev().find(is_missed).copied().unwrap_or(first);
        Plan {
            missed: (missed > 0).then_some(Missed { count: missed, first, last }),
            slots,
            next: self.next(now, terms),
        }
    }

    /// A later run from which few enough are left until now; nothing where there is none.
    fn leap(
        &self,
        from: DateTime<Utc>,
        mean: TimeDelta,
        wanted: usize,
        now: DateTime<Utc>,
        terms: &Terms,
    ) -> Option<DateTime<Utc>> {
        let mut back = mean.max(TimeDelta::microseconds(1)) * i32::try_from(wanted + 10).unwrap_or(i32::MAX);
        while now - back > from {
            let slot = self.next(now - back, terms)?;
            if slot <= now {
                return Some(slot).filter(|slot| *slot > from);
            }
            back = back * 2;
        }
        None
    }

    /// How late a run may be.
    fn window(&self, terms: &Terms) -> Option<TimeDelta> {
        let deadline = terms.cron_starting_deadline.filter(|_| matches!(self.schedule, Schedule::Crontab(_)));
        self.policy.missed_window.or(deadline).map(delta)
    }

    /// The first run after an instant within the entry's bounds.
    fn next(&self, last: DateTime<Utc>, terms: &Terms) -> Option<DateTime<Utc>> {
        let policy = &self.policy;
        let zone = terms.timezone;
        let mut slot = match policy.start {
            Some(start) if start > last => match &self.schedule {
                Schedule::Interval(_) => start,
                schedule => schedule.next_after(start - TimeDelta::microseconds(1), zone)?,
            },
            _ => self.schedule.next_after(last, zone)?,
        };
        let mut tries = 0;
        while policy.exclude.contains(slot, zone) {
            tries += 1;
            if tries > EXCLUDED {
                return None;
            }
            let end = Calendar::end_of_day(slot, zone);
            slot = match &self.schedule {
                Schedule::Interval(interval) if !interval.relative => {
                    let every = delta(interval.every).num_microseconds().unwrap_or(i64::MAX).max(1);
                    let gap = (end - slot).num_microseconds().unwrap_or(0);
                    slot + TimeDelta::microseconds((gap / every + i64::from(gap % every != 0)) * every)
                }
                schedule => schedule.next_after(end - TimeDelta::microseconds(1), zone)?,
            };
        }
        let slot = slot + self.jitter(slot);
        policy.end.is_none_or(|end| slot <= end).then_some(slot)
    }

    /// How far the run at a slot is put off: always the same for the same run, so that every beat says the same.
    fn jitter(&self, slot: DateTime<Utc>) -> TimeDelta {
        let most = u64::try_from(self.policy.jitter.as_micros()).unwrap_or(0);
        if most == 0 {
            return TimeDelta::zero();
        }
        let mut hash = Sha256::new();
        hash.update(self.name.as_bytes());
        hash.update(slot.timestamp_micros().to_le_bytes());
        let share = u64::from_le_bytes(hash.finalize()[..8].try_into().unwrap_or_default());
        TimeDelta::microseconds(i64::try_from(share % most).unwrap_or(0))
    }

    /// The terms with the entry's own zone.
    fn terms(&self, terms: &Terms) -> Terms {
        Terms { timezone: self.timezone.unwrap_or(terms.timezone), ..*terms }
    }
}
