//! Signals, in Celery's meaning.
//!
//! TERM: warm. INT: warm, the second time cold. QUIT: cold, after `worker_soft_shutdown_timeout` if set.
//! Source: celery 5.7 `celery/apps/worker.py`.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How a worker is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shutdown {
    /// Finish what runs.
    Warm,
    /// End what runs.
    Cold,
}

/// The signals that a worker listens to.
pub(crate) struct Signals {
    term: Signal,
    interrupt: Signal,
    quit: Signal,
    remap_term: bool,
    interrupted: bool,
}

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            remap_term: std::env::var("REMAP_SIGTERM").is_ok_and(|signal| signal == "SIGQUIT"),
            interrupted: false,
        })
    }

    /// Whether Ctrl-C was pressed.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// The next wish to end.
    pub(crate) async fn next(&mut self) -> Shutdown {
        tokio::select! {
            _ = self.term.recv() => if self.remap_term { Shutdown::Cold } else { Shutdown::Warm },
            _ = self.quit.recv() => Shutdown::Cold,
            _ = self.interrupt.recv() => {
                if std::mem::replace(&mut self.interrupted, true) { Shutdown::Cold } else { Shutdown::Warm }
            }
        }
    }
}
