//! Programs that tests run to their end.

use std::fmt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use crate::guard;

/// Runs `command` to its end.
///
/// # Panics
/// When it cannot be started, or still runs at the deadline (it is killed, and its output printed).
#[track_caller]
pub fn run(command: &Command, deadline: Duration) -> Finished {
    let shown = format!("{command:?}");
    // Files rather than pipes: a child that the program leaves behind could hold a pipe open for ever.
    let (out, err) = (Output::new(), Output::new());
    let mut guarded = guard::guarded(command);
    guarded.stdin(Stdio::null()).stdout(out.writer()).stderr(err.writer());
    let mut child = guard::spawn(guarded).unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    let start = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => break status,
            None if start.elapsed() < deadline => std::thread::sleep(Duration::from_millis(5)),
            None => {
                let _ = killpg(
                    Pid::from_raw(i32::try_from(child.id()).expect("process ids fit an i32")),
                    Signal::SIGKILL,
                );
                let status = child.wait().expect("a child can be waited for");
                let finished = Finished { command: shown, status, stdout: out.text(), stderr: err.text() };
                panic!("still running after {deadline:?}: {finished}");
            }
        }
    };
    Finished { command: shown, status, stdout: out.text(), stderr: err.text() }
}

/// What a program that ran to its end left.
pub struct Finished {
    command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Its standard output, without white space at the ends.
    ///
    /// # Panics
    /// When its exit status is not 0; with its output.
    #[track_caller]
    pub fn success(&self) -> String {
        assert!(self.status.success(), "{self}");
        self.stdout.trim().to_owned()
    }

    /// All that it said, standard error first.
    ///
    /// # Panics
    /// When its exit status is 0.
    #[track_caller]
    pub fn failure(&self) -> String {
        assert!(!self.status.success(), "should have failed: {self}");
        format!("{}{}", self.stderr, self.stdout)
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, stdout, stderr } = self;
        write!(f, "{command}: {status}\n--- stdout ---\n{stdout}\n--- stderr ---\n{stderr}")
    }
}

struct Output(NamedTempFile);

impl Output {
    fn new() -> Self {
        Self(NamedTempFile::new().expect("the temporary folder is writable"))
    }

    fn writer(&self) -> Stdio {
        self.0.as_file().try_clone().expect("a file handle can be cloned").into()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.0.path()).unwrap_or_default()).into_owned()
    }
}
