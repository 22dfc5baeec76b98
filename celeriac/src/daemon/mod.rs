//! The process of a worker: its directory, its terminal, its user, its pid file and its log.
//!
//! Source: celery 5.7 `celery/platforms.py`.

#[cfg(feature = "cli")]
mod detach;
#[cfg(feature = "cli")]
mod logging;
#[cfg(feature = "cli")]
mod pidfile;
#[cfg(feature = "cli")]
mod privileges;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

#[cfg(feature = "cli")]
use nix::sys::stat::{Mode, umask};

#[cfg(feature = "cli")]
pub(crate) use detach::settle;
#[cfg(feature = "cli")]
pub(crate) use logging::start as start_log;
#[cfg(feature = "cli")]
pub(crate) use pidfile::PidFile;

/// The directory in which the program was started.
static START: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::current_dir().ok());
/// The file of the program, by the name that a newer version of it takes over.
static PROGRAM: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::current_exe().ok());
/// This very program, even if its file was replaced.
const SELF: &str = "/proc/self/exe";

/// Exit status of a program that cannot create its pid file (`EX_CANTCREAT`).
const CANNOT_CREATE: i32 = 73;
/// Exit status of a command line that cannot be used.
const USAGE: i32 = 2;

/// A process that cannot become what its command line asks for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The value of `--uid`, `--gid` or `--umask` means nothing on this machine.
    #[error("{option} {value}: {reason}")]
    BadValue {
        /// The option, by its setting.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refuses another user or group.
    #[error("{option} {value}: the system refuses: {reason}\nhint: only root can become another user")]
    Privileges {
        /// The option, by its setting.
        option: &'static str,
        /// Its value.
        value: String,
        /// The system's reason.
        reason: String,
    },
    /// The directory of `--workdir` cannot be entered.
    #[error("--workdir {}: {source}", path.display())]
    Workdir {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The file of `--logfile` cannot be written.
    #[error("--logfile {}: {source}", path.display())]
    Logfile {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The pid file belongs to a process that runs.
    #[error("--pidfile {}: the file exists, and its process {pid} runs\nhint: seems the worker already runs; stop it, or give this one another file", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// The process in it.
        pid: i32,
    },
    /// The pid file cannot be written.
    #[error("--pidfile {}: {source}", path.display())]
    Pidfile {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The process cannot be started once more in the background.
    #[error("--detach: {0}")]
    Detach(#[source] std::io::Error),
}

impl ProcessError {
    /// The exit status: 2 for a value that cannot be used, 73 for a pid file, else 1.
    pub fn exit_code(&self) -> i32 {
        match self {
            ProcessError::BadValue { .. } => USAGE,
            ProcessError::Locked { .. } | ProcessError::Pidfile { .. } => CANNOT_CREATE,
            _ => 1,
        }
    }
}

/// What a process is to become.
#[cfg(feature = "cli")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) detach: bool,
    pub(crate) workdir: Option<&'a Path>,
    pub(crate) umask: Option<&'a str>,
    pub(crate) uid: Option<&'a str>,
    pub(crate) gid: Option<&'a str>,
}

/// Becomes what is wanted. With `detach` the calling process ends here, and a copy of it goes on in the background.
///
/// # Errors
/// [`ProcessError`].
#[cfg(feature = "cli")]
pub(crate) fn enter(wanted: Wanted<'_>) -> Result<(), ProcessError> {
    // Remembered before the directory changes.
    LazyLock::force(&START);
    LazyLock::force(&PROGRAM);
    if wanted.detach {
        detach::detach()?;
    }
    if let Some(path) = wanted.workdir {
        let changed = std::env::set_current_dir(path);
        changed.map_err(|source| ProcessError::Workdir { path: path.to_owned(), source })?;
    }
    if let Some(mask) = wanted.umask {
        umask(mode(mask)?);
    }
    privileges::change(wanted.uid, wanted.gid)
}

/// Octal with a leading 0, else decimal, as Celery reads it.
#[cfg(feature = "cli")]
fn mode(text: &str) -> Result<Mode, ProcessError> {
    let radix = if text.starts_with('0') { 8 } else { 10 };
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let bits = nix::libc::mode_t::from_str_radix(digits, radix).ok().filter(|bits| *bits <= 0o777);
    let bits = bits.ok_or_else(|| ProcessError::BadValue {
        option: "--umask",
        value: text.to_owned(),
        reason: "no mask of permissions; write it as 022".to_owned(),
    })?;
    Ok(Mode::from_bits_truncate(bits))
}

/// A command that starts this very program again, with the same arguments in the same directory.
pub(crate) fn again() -> Command {
    let own = Path::new(SELF);
    let program = if own.exists() { Some(own.to_owned()) } else { PROGRAM.clone() };
    command(program)
}

/// Replaces the running program by its file as it is now, with the same arguments, directory and process id.
///
/// Returns only when that fails.
pub(crate) fn replace() -> std::io::Error {
    let program = PROGRAM.clone().filter(|program| program.exists());
    command(program.or_else(|| Some(SELF.into()))).exec()
}

fn command(program: Option<PathBuf>) -> Command {
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    let fallback = || name.clone().unwrap_or_else(|| OsString::from(SELF));
    let mut command = Command::new(program.map_or_else(fallback, PathBuf::into_os_string));
    if let Some(name) = &name {
        command.arg0(name);
    }
    command.args(arguments);
    if let Some(directory) = &*START {
        command.current_dir(directory);
    }
    command
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_octal_with_a_leading_zero() {
        assert_eq!(mode("022").unwrap(), Mode::from_bits_truncate(0o022));
        assert_eq!(mode("0o77").unwrap(), Mode::from_bits_truncate(0o77));
        assert_eq!(mode("18").unwrap(), Mode::from_bits_truncate(0o022));
        assert_eq!(mode("0").unwrap(), Mode::empty());
        for bad in ["", "089", "rwx", "-1", "01000", "512"] {
            assert_eq!(mode(bad).unwrap_err().exit_code(), USAGE, "{bad}");
        }
    }
}
