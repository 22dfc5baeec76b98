//! Waiting for a condition, with a deadline, instead of sleeping and hoping.

use std::fmt::Display;
use std::panic::Location;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);

/// Calls `probe` every 20 ms until it says yes, and returns what it found.
///
/// `probe` may answer with a `bool`, an `Option` or a `Result`.
///
/// # Panics
/// After `deadline`, naming `what` was awaited, where, and the last error.
///
/// ```
/// use compat_tests::{eventually, secs};
/// let three = eventually("a third element", secs(1), || [1, 2, 3].get(2).copied());
/// assert_eq!(three, 3);
/// ```
#[track_caller]
pub fn eventually<A: Awaited>(what: &str, deadline: Duration, mut probe: impl FnMut() -> A) -> A::Value {
    let start = Instant::now();
    loop {
        match probe().outcome() {
            Ok(value) => return value,
            Err(last) if start.elapsed() >= deadline => give_up(what, deadline, &last, Location::caller()),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// [`eventually`] for async probes; a probe that hangs is cut off at the deadline too.
#[track_caller]
pub fn eventually_async<A: Awaited>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> A,
) -> impl Future<Output = A::Value> {
    let place = Location::caller();
    async move {
        let end = tokio::time::Instant::now() + deadline;
        let mut last = String::from("not yet");
        loop {
            match tokio::time::timeout_at(end, probe()).await.map(Awaited::outcome) {
                Ok(Ok(value)) => return value,
                Ok(Err(reason)) => last = reason,
                Err(_) => give_up(what, deadline, &format!("{last}; the last attempt did not return"), place),
            }
            if tokio::time::Instant::now() >= end {
                give_up(what, deadline, &last, place);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// `Duration::from_secs`, short.
pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a probe may answer: yes with a value, or not yet.
pub trait Awaited {
    /// What the caller gets in the end.
    type Value;

    /// The value, or why it is not there yet.
    ///
    /// # Errors
    /// Not there yet.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl Awaited for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".into()) }
    }
}

impl<T> Awaited for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "none".into())
    }
}

impl<T, E: Display> Awaited for Result<T, E> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

fn give_up(what: &str, deadline: Duration, last: &str, place: &Location<'_>) -> ! {
    panic!("waited {deadline:?} in vain for {what} (last answer: {last}), at {place}")
}
