//! The bounds of an entry, and what becomes of runs that were missed or that overlap.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Calendar;

/// What becomes of runs whose time passed while no beat ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedRuns {
    /// None is sent.
    Skip,
    /// The latest one is sent; Celery's way, and the default.
    #[default]
    Last,
    /// The latest so many are sent, in order.
    All(u32),
}

/// What becomes of a run that is due while the last one has not ended. It takes a result backend that knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// It is sent; Celery's way, and the default.
    #[default]
    Allow,
    /// It is not sent.
    Skip,
    /// One is sent as soon as the last one has ended.
    BufferOne,
}

/// The bounds of an entry, and what becomes of runs that were missed or that overlap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// No run before this time.
    pub start: Option<DateTime<Utc>>,
    /// No run after this time.
    pub end: Option<DateTime<Utc>>,
    /// No more than so many runs.
    pub total_runs: Option<u64>,
    /// Each run is put off by a share of this time, which depends on the entry and on the run.
    pub jitter: Duration,
    /// No run on these days, in the wall time of the entry.
    pub exclude: Calendar,
    /// What becomes of missed runs.
    pub missed: MissedRuns,
    /// A missed run that is later than this is not sent.
    pub missed_window: Option<Duration>,
    /// What becomes of a run that is due while the last one has not ended.
    pub overlap: Overlap,
    /// The longest time for which a run of which nothing is known counts as not ended; an hour by default.
    pub overlap_timeout: Option<Duration>,
    /// The entry is disabled after so many failed runs in a row.
    pub pause_after_failures: Option<u32>,
}

impl Policy {
    /// Whether it changes the times of runs.
    pub(crate) fn shapes_times(&self) -> bool {
        self.start.is_some()
            || self.end.is_some()
            || self.total_runs.is_some()
            || !self.jitter.is_zero()
            || !self.exclude.is_empty()
    }

    /// Whether it depends on how the last run ended.
    pub(crate) fn asks_for_results(&self) -> bool {
        self.overlap != Overlap::Allow || self.pause_after_failures.is_some()
    }
}
