//! The logical clock that control messages, replies and events carry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A Lamport clock; clones share the time.
///
/// Source: kombu 5.7 `kombu/clocks.py`.
#[derive(Clone, Debug, Default)]
pub struct LogicalClock(Arc<AtomicU64>);

impl LogicalClock {
    /// The time.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One step on; returns the new time.
    pub fn forward(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Past the time of somebody else; returns the new time.
    pub fn adjust(&self, other: u64) -> u64 {
        // Nobody's clock is believed so far that ours could not go on.
        let past = |own: u64| own.max(other.min(i64::MAX as u64 / 2)).saturating_add(1);
        let previous = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |own| Some(past(own)));
        previous.map_or(other, past)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let clock = LogicalClock::default();
        assert_eq!(clock.forward(), 1);
        assert_eq!(clock.adjust(10), 11);
        assert_eq!(clock.adjust(3), 12);
        assert_eq!(clock.clone().forward(), 13);
        assert!(clock.adjust(u64::MAX) > 13);
        let before = clock.value();
        assert_eq!(clock.forward(), before + 1);
    }
}
