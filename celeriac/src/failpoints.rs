//! Fail points: named places at which a test ends the worker as a crash would, or breaks what it is about to do.
//!
//! They exist only in builds with debug assertions; in a release build [`fail_point!`] is nothing at all.
//! `CELERIAC_FAILPOINTS` says what is to happen where: `NAME=ACTION`, with commas between. `NAME@3` means the third time
//! that the place is reached rather than the first, `NAME%3` every third time. Actions: `kill` (SIGKILL), `stop`
//! (SIGSTOP), `panic`, and `error` where a place can fail.
//!
//! Own code rather than the crate `fail`: that one can neither kill nor stop its process, and has had no release since 2022.

/// Marks a place that tests can break; with an error, one that they can let fail.
macro_rules! fail_point {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        crate::failpoints::reach($name);
    };
    ($name:literal, $error:expr) => {
        #[cfg(debug_assertions)]
        if crate::failpoints::reach($name) {
            return Err($error);
        }
    };
}
pub(crate) use fail_point;

#[cfg(debug_assertions)]
pub(crate) use enabled::reach;

#[cfg(debug_assertions)]
mod enabled {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, raise};

    /// What is to happen at one place.
    struct Fault {
        name: String,
        due: Due,
        action: Action,
        reached: AtomicU64,
    }

    enum Due {
        At(u64),
        Every(u64),
    }

    enum Action {
        Signal(Signal),
        Panic,
        Error,
    }

    static FAULTS: LazyLock<Vec<Fault>> = LazyLock::new(|| {
        let text = std::env::var("CELERIAC_FAILPOINTS").unwrap_or_default();
        let parse = |fault: &str| Fault::parse(fault).unwrap_or_else(|| panic!("no fail point: {fault:?}"));
        text.split(',').filter(|fault| !fault.is_empty()).map(parse).collect()
    });

    /// Carries out what is due here; `true` when the place is to fail.
    pub(crate) fn reach(name: &str) -> bool {
        FAULTS.iter().filter(|fault| fault.name == name && fault.is_due()).any(Fault::happen)
    }

    impl Fault {
        fn parse(text: &str) -> Option<Self> {
            let (place, action) = text.split_once('=')?;
            let (name, due) = match (place.split_once('@'), place.split_once('%')) {
                (Some((name, number)), _) => (name, Due::At(number.parse().ok()?)),
                (_, Some((name, number))) => (name, Due::Every(number.parse().ok()?)),
                _ => (place, Due::At(1)),
            };
            let action = match action {
                "kill" => Action::Signal(Signal::SIGKILL),
                "stop" => Action::Signal(Signal::SIGSTOP),
                "panic" => Action::Panic,
                "error" => Action::Error,
                _ => return None,
            };
            Some(Self { name: name.to_owned(), due, action, reached: AtomicU64::new(0) })
        }

        fn is_due(&self) -> bool {
            let reached = self.reached.fetch_add(1, Ordering::Relaxed) + 1;
            match self.due {
                Due::At(number) => reached == number,
                Due::Every(number) => reached.is_multiple_of(number),
            }
        }

        fn happen(&self) -> bool {
            log::warn!(name = self.name.as_str(); "Fail point {}", self.name);
            match self.action {
                // A signal that cannot be raised leaves a worker that does not die, which its test notices.
                Action::Signal(signal) => drop(raise(signal)),
                Action::Panic => panic!("fail point {}", self.name),
                Action::Error => return true,
            }
            false
        }
    }
}
