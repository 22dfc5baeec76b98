//! The clock of an application: the system's, or one that follows the paused time of a test.

#[cfg(feature = "testing")]
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// Tells the time by which etas, expirations, retries and results go.
///
/// Spans of time are measured with [`tokio::time::Instant`], which a test may pause; a simulated clock follows it, so
/// that both always agree.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    #[cfg(feature = "testing")]
    Simulated(Arc<Simulated>),
}

impl Clock {
    /// Returns the time that it is now.
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            Source::System => Utc::now(),
            #[cfg(feature = "testing")]
            Source::Simulated(simulated) => simulated.now(),
        }
    }

    /// Whether it is the clock of a test.
    pub(crate) fn is_simulated(&self) -> bool {
        !matches!(self.0, Source::System)
    }
}

/// A time that begins at `start` and goes on with the time of a runtime, once it follows one.
#[cfg(feature = "testing")]
#[derive(Debug)]
struct Simulated {
    anchor: Mutex<Anchor>,
}

/// A time of a clock, and the same in the runtime that it follows.
#[cfg(feature = "testing")]
type Anchor = (DateTime<Utc>, Option<(tokio::runtime::Handle, tokio::time::Instant)>);

#[cfg(feature = "testing")]
impl Simulated {
    fn now(&self) -> DateTime<Utc> {
        let (start, followed) = &*self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((runtime, origin)) = followed else { return *start };
        let elapsed = {
            let _runtime = runtime.enter();
            origin.elapsed()
        };
        let elapsed = chrono::TimeDelta::from_std(elapsed).unwrap_or(chrono::TimeDelta::MAX);
        start.checked_add_signed(elapsed).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

#[cfg(feature = "testing")]
impl Clock {
    /// Returns a clock that stands at `start` until it follows a runtime.
    pub(crate) fn simulated(start: DateTime<Utc>) -> Self {
        Self(Source::Simulated(Arc::new(Simulated { anchor: Mutex::new((start, None)) })))
    }

    /// Goes on with the time of the present runtime from now on, unless it is the system's clock.
    pub(crate) fn follow(&self) {
        if let Source::Simulated(simulated) = &self.0 {
            let now = simulated.now();
            let followed = (tokio::runtime::Handle::current(), tokio::time::Instant::now());
            *simulated.anchor.lock().unwrap_or_else(PoisonError::into_inner) = (now, Some(followed));
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_follows_paused_time() {
        let start = "2026-01-02T03:04:05Z".parse().unwrap();
        let clock = Clock::simulated(start);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(clock.now(), start, "it follows nothing yet");
        clock.follow();
        tokio::time::sleep(Duration::from_secs(86_400)).await;
        assert_eq!(clock.now() - start, TimeDelta::days(1));
        let elsewhere = std::thread::spawn({
            let clock = clock.clone();
            move || clock.now()
        });
        assert_eq!(elsewhere.join().unwrap() - start, TimeDelta::days(1), "also in a thread of no runtime");
    }
}
