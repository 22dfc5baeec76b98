//! Signals, in Celery's meaning.
//!
//! TERM: warm. INT: warm, the second time cold. QUIT: cold, after `worker_soft_shutdown_timeout` if set. HUP: warm, then
//! the program starts again in place. USR1: logs what tasks and threads do. USR2: would open Celery's remote debugger.
//! Source: celery 5.7 `celery/apps/worker.py`.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Weak};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::report::{report, threads_of_this_process};
use super::runtime::Runtime;

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
    hangup: Signal,
    remap_term: bool,
    interrupted: bool,
    restarts: bool,
}

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            remap_term: std::env::var("REMAP_SIGTERM").is_ok_and(|signal| signal == "SIGQUIT"),
            interrupted: false,
            restarts: false,
        })
    }

    /// Whether Ctrl-C was pressed.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Whether the program is to start again.
    pub(crate) fn restarts(&self) -> bool {
        self.restarts
    }

    /// The next wish to end.
    pub(crate) async fn next(&mut self) -> Shutdown {
        tokio::select! {
            _ = self.term.recv() => if self.remap_term { Shutdown::Cold } else { Shutdown::Warm },
            _ = self.quit.recv() => Shutdown::Cold,
            _ = self.interrupt.recv() => {
                if std::mem::replace(&mut self.interrupted, true) { Shutdown::Cold } else { Shutdown::Warm }
            }
            _ = self.hangup.recv() => {
                // A terminal that closes is to leave no worker behind.
                self.restarts = !io::stdout().is_terminal();
                let then = if self.restarts { "starts again" } else { "ends with its terminal" };
                log::warn!("SIGHUP: the worker finishes what runs and {then}");
                Shutdown::Warm
            }
        }
    }
}

/// Answers SIGUSR1 and SIGUSR2 on a thread of its own, which no task can hold, until told to stop.
///
/// # Errors
/// The system gives no thread or no runtime, or refuses a handler.
pub(crate) fn answer(runtime: Weak<Runtime>, stop: CancellationToken) -> io::Result<()> {
    let own = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut usr1, mut usr2) = {
        let _own = own.enter();
        (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?)
    };
    std::thread::Builder::new().name("celeriac-signals".to_owned()).spawn(move || {
        own.block_on(async {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    Some(()) = usr1.recv() => {
                        let Some(runtime) = runtime.upgrade() else { return };
                        tell(&runtime);
                    }
                    Some(()) = usr2.recv() => log::warn!("SIGUSR2: this worker has no remote debugger (Celery's rdb)\nhint: attach gdb or lldb to process {}; SIGUSR1 logs what its tasks and threads do", std::process::id()),
                }
            }
        });
    })?;
    Ok(())
}

fn tell(runtime: &Arc<Runtime>) {
    let hostname = runtime.state.hostname.as_str();
    log::warn!(worker = hostname; "SIGUSR1: {hostname}:\n  {}", report(runtime).join("\n  "));
    runtime.processes.pids().iter().for_each(|pid| {
        // It may have ended meanwhile.
        let pid = i32::try_from(*pid).map(nix::unistd::Pid::from_raw);
        let _ = pid.map(|pid| nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1));
    });
}

/// Lets a child process outlive the signals that a worker answers, and are often sent to all processes of a name; it
/// answers SIGUSR1 with `doing` and its threads.
///
/// # Errors
/// The system refuses a handler.
pub(crate) fn answer_in_child(doing: impl Fn() -> String + Send + 'static) -> io::Result<()> {
    let mut ignored = [signal(SignalKind::hangup())?, signal(SignalKind::user_defined2())?];
    let mut usr1 = signal(SignalKind::user_defined1())?;
    tokio::spawn(async move {
        loop {
            let [hangup, usr2] = &mut ignored;
            tokio::select! {
                _ = hangup.recv() => {}
                _ = usr2.recv() => {}
                _ = usr1.recv() => {
                    let pid = std::process::id();
                    let threads = threads_of_this_process().join("\n  ");
                    log::warn!(pid; "SIGUSR1: child process {pid} {}\n  {threads}", doing());
                }
            }
        }
    });
    Ok(())
}
