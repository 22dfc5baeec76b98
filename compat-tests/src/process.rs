//! Programs that tests start, watch and kill.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use regex::Regex;

use crate::guard;
use crate::usage::Usage;

/// A running program whose output is captured line by line. Killed with all its children, and reaped, on drop; if the
/// test is failing then, its last lines are printed.
pub struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`, which is given as usual: program, arguments, environment, folder.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn spawn(name: impl Into<String>, command: &Command) -> Self {
        Self::spawn_guarded(name, guard::guarded(command))
    }

    #[track_caller]
    pub(crate) fn spawn_guarded(name: impl Into<String>, mut command: Command) -> Self {
        let name = name.into();
        let shown = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            guard::spawn(command).unwrap_or_else(|error| panic!("cannot start {name}: {error}: {shown}"));
        let lines = Arc::default();
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|pipe| collect(pipe, &lines)));
        readers.extend(child.stderr.take().map(|pipe| collect(pipe, &lines)));
        Self { name, child, lines, readers }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the resources that the program and its children have used.
    pub fn usage(&self) -> Usage {
        Usage::of(self.id())
    }

    /// All lines so far, of stdout and stderr, in the order in which they came.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines so far that match `pattern`.
    ///
    /// # Panics
    /// When `pattern` is no regular expression.
    #[track_caller]
    pub fn lines_with(&self, pattern: &str) -> Vec<String> {
        let pattern = Regex::new(pattern).unwrap_or_else(|error| panic!("{error}"));
        self.lines().into_iter().filter(|line| pattern.is_match(line)).collect()
    }

    /// Waits until a line, also one of the past, matches `pattern`, and returns it.
    ///
    /// # Panics
    /// At the deadline, or when the program ends without saying it; with its output.
    #[track_caller]
    pub fn wait_for_line(&mut self, pattern: &str, deadline: Duration) -> String {
        self.wait_for_lines(pattern, 1, deadline)
    }

    /// Waits until `count` lines match `pattern`, and returns the last of these.
    ///
    /// # Panics
    /// As [`Process::wait_for_line`].
    #[track_caller]
    pub fn wait_for_lines(&mut self, pattern: &str, count: usize, deadline: Duration) -> String {
        let start = Instant::now();
        loop {
            let ended = self.ended();
            if let Some(line) = self.lines_with(pattern).into_iter().nth(count.saturating_sub(1)) {
                return line;
            }
            if let Some(status) = ended {
                panic!("{} ended ({status}) without {count} x {pattern:?}{}", self.name, self.tail());
            }
            assert!(
                start.elapsed() < deadline,
                "{} said no {count} x {pattern:?} in {deadline:?}{}",
                self.name,
                self.tail()
            );
            std::thread::sleep(POLL);
        }
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to the program (not to its children).
    ///
    /// # Panics
    /// When it is gone.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal)
            .unwrap_or_else(|error| panic!("cannot send {signal} to {}: {error}{}", self.name, self.tail()));
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// At the deadline, with its output.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(start.elapsed() < deadline, "{} still runs after {deadline:?}{}", self.name, self.tail());
            std::thread::sleep(POLL);
        }
    }

    /// SIGTERM, then [`Process::wait`].
    ///
    /// # Panics
    /// As [`Process::wait`].
    #[track_caller]
    pub fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        if self.is_running() {
            self.signal(Signal::SIGTERM);
        }
        self.wait(deadline)
    }

    /// SIGKILL to the program and all its children; returns when it is gone.
    pub fn kill(&mut self) {
        if self.is_running() {
            let _ = killpg(self.pid(), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }

    /// The last lines, for a panic message.
    pub(crate) fn tail(&self) -> String {
        let lines = self.lines();
        let mut text = format!("\n--- output of {} ({} lines) ---", self.name, lines.len());
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            let _ = write!(text, "\n  {line}");
        }
        text
    }

    /// The status of an ended program, once its output has been read to the end (children of it may hold the pipes
    /// open, so that wait is short).
    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten()?;
        let end = Instant::now() + Duration::from_millis(500);
        while Instant::now() < end && !self.readers.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(POLL);
        }
        Some(status)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit an i32"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

const POLL: Duration = Duration::from_millis(5);
const TAIL: usize = 80;

fn collect(pipe: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    })
}
