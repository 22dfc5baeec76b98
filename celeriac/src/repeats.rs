//! Errors that come again and again: each is logged once, and then its number now and then.

use std::time::{Duration, Instant};

/// How long an error that comes again is only counted.
const QUIET: Duration = Duration::from_secs(60);

/// Counts one kind of error, so that the same one does not fill the log.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    /// The reason that came last, when it was logged, and how often it has come.
    current: Option<(String, Instant, u64)>,
}

impl Repeats {
    /// Counts an error; returns how often it has come with that reason if that is to be logged: the first time, when
    /// the reason is another one, and once a minute.
    pub(crate) fn note(&mut self, reason: &str) -> Option<u64> {
        match &mut self.current {
            Some((known, logged, count)) if known == reason => {
                *count += 1;
                if logged.elapsed() < QUIET {
                    return None;
                }
                *logged = Instant::now();
                Some(*count)
            }
            current => {
                *current = Some((reason.to_owned(), Instant::now(), 1));
                Some(1)
            }
        }
    }

    /// Notes that all is well again; returns how often the last error had come, if there was one.
    pub(crate) fn end(&mut self) -> Option<u64> {
        self.current.take().map(|(_, _, count)| count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_error_is_logged_once_until_it_ends_or_changes() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.note("disk full"), Some(1));
        assert_eq!(repeats.note("disk full"), None);
        assert_eq!(repeats.note("no such folder"), Some(1));
        assert_eq!(repeats.note("no such folder"), None);
        assert_eq!(repeats.end(), Some(2));
        assert_eq!(repeats.end(), None);
        assert_eq!(repeats.note("no such folder"), Some(1));
    }
}
