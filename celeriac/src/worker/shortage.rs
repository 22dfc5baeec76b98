//! A shortage: tasks cannot begin because the system refuses a thread or a process.
//!
//! Nothing fails for it. The tasks wait with their messages unacknowledged, the worker fetches no more and is not
//! ready, and one waiter at a time tries again, with growing pauses.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crate::backoff::Backoff;
use crate::node::lock;

/// What may be short, and the state of the shortage.
pub(crate) struct Shortage {
    /// Plural, as it is logged.
    of: &'static str,
    hint: &'static str,
    current: Mutex<Option<Current>>,
    is_on: AtomicBool,
    waiting: AtomicUsize,
    turn: tokio::sync::Mutex<()>,
}

/// The shortage that goes on.
struct Current {
    since: Instant,
    error: String,
    attempts: u32,
    backoff: Backoff,
}

impl Shortage {
    /// No shortage yet.
    pub(crate) const fn new(of: &'static str, hint: &'static str) -> Self {
        Self {
            of,
            hint,
            current: Mutex::new(None),
            is_on: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            turn: tokio::sync::Mutex::const_new(()),
        }
    }

    /// Whether tasks wait because of it.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Why the worker is not ready; `None` without a shortage.
    pub(crate) fn reason(&self) -> Option<String> {
        let current = lock(&self.current);
        let Current { since, error, attempts, .. } = current.as_ref()?;
        let seconds = since.elapsed().as_secs();
        Some(format!("no {} can be started for {seconds} s ({attempts} attempts): {error}", self.of))
    }

    /// Repeats an attempt until it succeeds.
    pub(crate) async fn outlast<T, F>(&self, mut attempt: impl FnMut() -> F) -> T
    where
        F: Future<Output = io::Result<T>>,
    {
        let _waiting = Waiting::new(self);
        loop {
            let _turn = if self.is_on() { Some(self.turn.lock().await) } else { None };
            let pause = lock(&self.current).as_mut().map(|current| current.backoff.next());
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            match attempt().await {
                Ok(found) => {
                    self.end();
                    return found;
                }
                Err(error) => self.note(&error),
            }
        }
    }

    fn note(&self, error: &io::Error) {
        let mut current = lock(&self.current);
        let error = error.to_string();
        let (of, hint) = (self.of, self.hint);
        let now = current.get_or_insert_with(|| Current {
            since: Instant::now(),
            error: String::new(),
            attempts: 0,
            backoff: Backoff::default(),
        });
        now.attempts += 1;
        if now.error != error {
            log::error!(error = error.as_str(); "No {of} can be started: {error}. Tasks wait until it can; trying again\nhint: {hint}");
            now.error = error;
        }
        self.is_on.store(true, Ordering::Relaxed);
    }

    fn end(&self) {
        if !self.is_on() {
            return;
        }
        let ended = lock(&self.current).take();
        self.is_on.store(false, Ordering::Relaxed);
        if let Some(Current { since, attempts, .. }) = ended {
            let (of, seconds) = (self.of, since.elapsed().as_secs_f64());
            log::warn!(attempts; "{of} can be started again, after {attempts} failed attempt(s) in {seconds:.1} s");
        }
    }
}

/// Counts as waiting until it is dropped.
struct Waiting<'a>(&'a Shortage);

impl<'a> Waiting<'a> {
    fn new(shortage: &'a Shortage) -> Self {
        shortage.waiting.fetch_add(1, Ordering::Relaxed);
        Self(shortage)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Without a waiter nobody tries, so that nobody would notice the end.
        if self.0.waiting.fetch_sub(1, Ordering::Relaxed) == 1 && self.0.is_on() {
            self.0.is_on.store(false, Ordering::Relaxed);
            *lock(&self.0.current) = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_shortage_lasts_until_an_attempt_succeeds_or_nobody_waits() {
        let shortage = Shortage::new("things", "wait");
        let mut left = 4;
        let found =
            shortage.outlast(|| {
                left -= 1;
                let outcome = if left == 0 { Ok("found") } else { Err(io::Error::other("none left")) };
                let seen = shortage.reason();
                async move {
                    outcome.inspect(|_| assert!(seen.is_some_and(|reason| reason.contains("none left"))))
                }
            });
        assert_eq!(found.await, "found");
        assert!(!shortage.is_on() && shortage.reason().is_none());

        let never = shortage.outlast(|| std::future::ready(Err::<(), _>(io::Error::other("never"))));
        assert!(tokio::time::timeout(Duration::from_millis(200), never).await.is_err());
        assert!(!shortage.is_on() && shortage.reason().is_none(), "nobody waits any more");
    }
}
