//! Looking after the dead letters: warning when there are some, and when the oldest begin to give way.

use crate::broker::{Broker, BrokerError, DeadLetterCount};
use crate::config::Config;

/// How full the list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Empty,
    Some,
    /// Nearly at a bound, or beyond.
    Full,
}

/// Counts the dead letters of a broker, and warns once when there are some or they reach a bound.
pub(super) struct DeadLetterWatch {
    /// Name of the list (`celeriac_dead_letter_queue`).
    queue: String,
    max_count: u64,
    max_bytes: u64,
    level: Level,
}

impl DeadLetterWatch {
    /// Creates a watch over the list of those settings; `None` where none is kept.
    pub(super) fn new(config: &Config) -> Option<Self> {
        Some(Self {
            queue: config.celeriac_dead_letter_queue.clone()?,
            max_count: config.celeriac_dead_letter_max_count,
            max_bytes: config.celeriac_dead_letter_max_bytes,
            level: Level::Empty,
        })
    }

    /// Counts, after dropping what is beyond the bounds.
    ///
    /// # Errors
    /// [`BrokerError`] when the server cannot be reached or refuses the command.
    pub(super) async fn look(&mut self, broker: &Broker) -> Result<DeadLetterCount, BrokerError> {
        let found = broker.trim_dead_letters().await?.unwrap_or_default();
        let level = level_of(found, self.max_count, self.max_bytes);
        let (before, count, key) = (self.level, found.count, self.queue.as_str());
        self.level = level;
        match level {
            Level::Full if before < level => log::warn!(
                count, bytes = found.bytes.unwrap_or(0), dropped = found.dropped, queue = key;
                "{count} message(s) were given up and {key} is nearly full: each further one drops the oldest\nhint: see `celeriac dead list`, celeriac_dead_letter_max_count and celeriac_dead_letter_max_bytes"
            ),
            Level::Some if before < level => log::warn!(
                count, queue = key;
                "{count} message(s) were given up and are kept in {key}\nhint: `celeriac dead list` tells why, `celeriac dead requeue` and `celeriac dead drop` clear them"
            ),
            Level::Empty if before > level => log::info!(queue = key; "No message is left in {key}"),
            _ => {}
        }
        Ok(found)
    }
}

fn level_of(found: DeadLetterCount, max_count: u64, max_bytes: u64) -> Level {
    let is_near = |number: u64, most: u64| most > 0 && number >= most - most / 10;
    if found.count == 0 {
        Level::Empty
    } else if is_near(found.count, max_count) || is_near(found.bytes.unwrap_or(0), max_bytes) {
        Level::Full
    } else {
        Level::Some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_near_before_it_is_reached() {
        let level =
            |count, bytes| level_of(DeadLetterCount { count, bytes, dropped: 0 }, 10_000, 100 * 1024 * 1024);
        assert_eq!(level(0, Some(0)), Level::Empty);
        assert_eq!(level(1, None), Level::Some);
        assert_eq!(level(9_000, Some(1)), Level::Full);
        assert_eq!(level(2, Some(104_000_000)), Level::Full);
    }
}
