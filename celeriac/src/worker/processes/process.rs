//! A child process as the worker sees it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::answer::Answer;
use super::child::VARIABLE;
use super::wire::{self, Kind};
use crate::daemon::again;

/// How long a child may take to end after a signal that ends it.
const GRACE: Duration = Duration::from_secs(3);

/// A child process; killed when dropped.
pub(super) struct Process {
    child: Child,
    stream: BufReader<UnixStream>,
    pub(super) pid: u32,
    /// How many tasks it has run.
    pub(super) runs: u32,
    /// Whether it was sent a task and has not answered.
    pub(super) is_busy: bool,
    /// Which restart of the pool it belongs to.
    pub(super) generation: u64,
}

/// Why a child did not run a task to its end.
#[derive(Debug)]
pub(super) enum Died {
    /// It has ended, or was lost, before it began the task.
    Idle(io::Error),
    /// It has ended, or was lost, while it ran the task.
    Running(io::Error),
}

impl Process {
    /// Starts this program once more, as a child that is ready to run tasks.
    pub(super) async fn start(patience: Duration, generation: u64) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = command(theirs).spawn()?;
        let pid = child.id().unwrap_or_default();
        let stream = BufReader::new(UnixStream::from_std(ours)?);
        let mut process = Self { child, stream, pid, runs: 0, is_busy: false, generation };
        match tokio::time::timeout(patience, wire::receive(&mut process.stream)).await {
            Ok(Ok((Kind::Ready, _))) => Ok(process),
            Ok(Ok(_)) => Err(io::Error::other("it does not say that it is ready")),
            Ok(Err(_)) => {
                let status = process.end().await?;
                Err(io::Error::other(format!("it ended before it was ready: {}", describe(status))))
            }
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "it was not ready within {patience:?}\nhint: call Worker::run early in the program, or raise worker_proc_alive_timeout"
                ),
            )),
        }
    }

    /// Runs a task.
    ///
    /// # Errors
    /// [`Died`] when the child has ended, or does not answer as it should.
    pub(super) async fn run(&mut self, soft: Option<f64>, message: &[u8]) -> Result<Answer, Died> {
        self.is_busy = true;
        let soft = soft.unwrap_or(f64::NAN).to_be_bytes();
        let run = wire::frame(Kind::Run, &[&soft, message]).map_err(Died::Running)?;
        let (child, stream) = (&mut self.child, &mut self.stream);
        let begun = AtomicBool::new(false);
        let mut conversation = pin!(async {
            wire::send(stream, &run).await?;
            while !matches!(wire::receive(stream).await?, (Kind::Begun, _)) {}
            begun.store(true, Ordering::Relaxed);
            wire::receive(stream).await
        });
        let answer = tokio::select! {
            biased;
            answer = conversation.as_mut() => answer,
            // A program that the task started may keep the connection open.
            status = child.wait() => match conversation.now_or_never() {
                // It came after the first look and before the end.
                Some(Ok(answer)) => Ok(answer),
                _ => Err(status.map_or_else(|error| error, |status| io::Error::other(describe(status)))),
            },
        };
        let answer = answer.and_then(|(_, content)| Answer::decode(&content).map_err(io::Error::other));
        match answer {
            Ok(answer) => {
                self.runs += 1;
                self.is_busy = false;
                Ok(answer)
            }
            Err(error) if begun.load(Ordering::Relaxed) => Err(Died::Running(error)),
            Err(error) => Err(Died::Idle(error)),
        }
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal and waits for the end; a child that survives is killed.
    pub(super) async fn kill(&mut self, signum: i32) {
        if let (Ok(signal), Ok(pid)) = (Signal::try_from(signum), i32::try_from(self.pid))
            && self.child.id().is_some()
        {
            // It may have ended meanwhile.
            let _ = signal::kill(Pid::from_raw(pid), signal);
        }
        let _ = self.end().await;
    }

    /// Closes the connection, upon which the child ends.
    pub(super) async fn dismiss(self) {
        let Self { mut child, stream, .. } = self;
        drop(stream);
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            // It is gone when it cannot be killed.
            let _ = child.kill().await;
        }
    }

    /// Waits for the end, and brings it about if it does not come.
    pub(super) async fn end(&mut self) -> io::Result<ExitStatus> {
        if let Ok(status) = tokio::time::timeout(GRACE, self.child.wait()).await {
            return status;
        }
        self.child.start_kill()?;
        self.child.wait().await
    }
}

/// How a process ended, in billiard's words (`billiard/common.py` `human_status`).
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(number), _) => match Signal::try_from(number) {
            Ok(signal) => format!("signal {number} ({})", signal.as_str()),
            Err(_) => format!("signal {number}"),
        },
        (None, code) => format!("exitcode {}", code.unwrap_or_default()),
    }
}

/// This program with the same arguments, and its end of the connection for standard input.
fn command(theirs: std::os::unix::net::UnixStream) -> Command {
    let mut command = Command::from(again());
    command
        .env(VARIABLE, std::process::id().to_string())
        // Where the worker is now, after its --workdir.
        .current_dir(".")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        // Ctrl-C is for the worker, which lets the task finish.
        .process_group(0)
        .kill_on_drop(true);
    command
}
