//! The worker: from a message to its acknowledgement.

mod assembly;
mod autoscale;
#[cfg(feature = "cli")]
mod banner;
mod beat_runs;
mod builder;
mod builtins;
mod chords;
mod commit;
mod completion;
mod ending;
mod errbacks;
mod error;
mod execute;
mod health;
mod hooks;
mod insist;
mod intake;
mod job;
mod late_retry;
mod layers;
mod learn;
mod lifetime;
mod loops;
mod metrics;
mod panics;
mod place;
mod poison;
mod port;
mod processes;
#[cfg(feature = "cli")]
mod program;
mod queues;
mod rate_limits;
mod refused;
mod report;
mod revocation;
mod run;
mod runtime;
mod schedule;
mod shortage;
mod shutdown;
mod signals;
mod slots;
mod statedb;
#[cfg(feature = "testing")]
mod testing;
mod threads;
mod unwanted;

use std::process::{ExitCode, Termination};

/// What ends a worker from outside: [`Worker::stop_on`].
pub use tokio_util::sync::CancellationToken;

pub use builder::Worker;
pub use error::WorkerError;
pub use hooks::Revocation;
pub use layers::Next;
pub use metrics::Metrics;

use processes::is_child;

/// Why a worker stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// Whether running tasks were ended rather than finished.
    pub is_cold: bool,
    /// Whether an interrupt (Ctrl-C) was the reason.
    pub is_interrupted: bool,
    /// Whether SIGHUP was the reason; then the program could not be started again.
    pub is_hangup: bool,
}

impl Stopped {
    /// The exit status that Celery's worker would have: 0 after a warm shutdown, else 1.
    pub fn exit_code(&self) -> i32 {
        i32::from(self.is_cold || self.is_interrupted)
    }
}

/// `main` may return what [`Worker::run`] returns; its exit status is [`Stopped::exit_code`].
impl Termination for Stopped {
    fn report(self) -> ExitCode {
        if self.exit_code() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Whether this process is a child that a worker started to run tasks in; see [`Worker::run`].
///
/// For what `main` had better not do again before it comes to the worker: open a port, migrate a database, print.
pub fn is_child_process() -> bool {
    is_child()
}
