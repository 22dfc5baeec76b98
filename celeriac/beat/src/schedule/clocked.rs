//! Once, at a point in time.

use chrono::{DateTime, Utc};

/// Runs once, at an instant; django-celery-beat's `clocked`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocked {
    /// When.
    pub at: DateTime<Utc>,
}

impl Clocked {
    /// The run after an instant: none when the time has passed.
    pub fn next_after(&self, last: DateTime<Utc>) -> Option<DateTime<Utc>> {
        (self.at > last).then_some(self.at)
    }
}
