//! Growing pauses between attempts.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Exponential pauses with jitter, from 50 ms to 2 s.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
    /// How many of the shortest pauses are left out.
    skipped: u32,
}

impl Backoff {
    /// Pauses that begin with about half a second, for what is reported at each attempt.
    pub(crate) fn patient() -> Self {
        Self { attempts: 0, skipped: 4 }
    }

    /// The pause before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let full = FIRST.saturating_mul(1 << (self.attempts + self.skipped).min(10)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        full.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// How often in a row a pause was needed.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Starts over after a success.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}
