//! A process in the background: this program started once more, in a session of its own.
//!
//! The first process waits until the second one has said that it runs, so that whatever is wrong with its command line
//! still shows on the terminal and in the exit status.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::{dup2_stderr, dup2_stdout, getpid, getsid, setsid};

use super::{ProcessError, again};

/// Set for the second process to the process id of the first.
const VARIABLE: &str = "CELERIAC_DETACHED_BY";
/// Told to the first process when the second one runs.
const RUNS: &[u8] = b"\x06";

/// Whether somebody waits for this process to run in the background.
static IS_AWAITED: AtomicBool = AtomicBool::new(false);

/// Goes into the background. Returns in the second process; the first ends.
pub(super) fn detach() -> Result<(), ProcessError> {
    if std::env::var_os("C_FAKEFORK").is_some_and(|fake| !fake.is_empty()) {
        return Ok(());
    }
    let first = std::env::var(VARIABLE).ok();
    if first.is_none() {
        return launch().map_err(ProcessError::Detach);
    }
    if first == Some(std::os::unix::process::parent_id().to_string()) {
        setsid().map_err(|error| ProcessError::Detach(error.into()))?;
        IS_AWAITED.store(true, Ordering::Relaxed);
        return Ok(());
    }
    // After a restart, the process leads the session that it was detached into.
    if getsid(None).is_ok_and(|session| session == getpid()) {
        return Ok(());
    }
    launch().map_err(ProcessError::Detach)
}

/// Starts the second process, waits until it runs, and ends with its status.
fn launch() -> io::Result<()> {
    let mut command = again();
    command
        .env(VARIABLE, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut told = Vec::new();
    if let Some(mut output) = child.stdout.take() {
        output.read_to_end(&mut told)?;
    }
    if let Some(mut errors) = child.stderr.take() {
        io::copy(&mut errors, &mut io::stderr())?;
    }
    let runs = told.ends_with(RUNS);
    io::stdout().write_all(told.strip_suffix(RUNS).unwrap_or(&told))?;
    if runs {
        std::process::exit(0);
    }
    std::process::exit(child.wait()?.code().unwrap_or(1));
}

/// Lets go of the terminal, if the process was sent into the background: what it prints goes to its log from now on.
///
/// # Errors
/// The log, or the null device, cannot be opened.
pub(crate) fn settle(logfile: Option<&Path>) -> Result<(), ProcessError> {
    if !IS_AWAITED.swap(false, Ordering::Relaxed) {
        return Ok(());
    }
    let path = logfile.unwrap_or_else(|| Path::new("/dev/null"));
    let file: io::Result<File> = OpenOptions::new().append(true).create(true).open(path);
    let file = file.map_err(|source| ProcessError::Logfile { path: path.to_owned(), source })?;
    let release = || {
        io::stdout().write_all(RUNS)?;
        io::stdout().flush()?;
        dup2_stdout(&file)?;
        dup2_stderr(&file)?;
        io::Result::Ok(())
    };
    release().map_err(ProcessError::Detach)
}
