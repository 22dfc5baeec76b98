//! The file that says which process a worker is, and that another one is not to start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::kill;
use nix::unistd::{Pid, getpid};

use super::ProcessError;

const MODE: u32 = 0o644;

/// A pid file of this process; removed when dropped.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file; one that a process left behind which does not run any more is replaced.
    ///
    /// # Errors
    /// [`ProcessError::Locked`] when its process runs, [`ProcessError::Pidfile`] when it cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self, ProcessError> {
        let failed = |source| ProcessError::Pidfile { path: path.to_owned(), source };
        // Removed at the end, when the directory may be another one.
        let path = std::path::absolute(path).map_err(failed)?;
        let written = write(&path);
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
            if let Some(pid) = owner(&path) {
                return Err(ProcessError::Locked { path, pid });
            }
            log::warn!(path:% = path.display(); "Stale pidfile {} is replaced", path.display());
            fs::remove_file(&path).map_err(failed)?;
            write(&path).map_err(failed)?;
        } else {
            written.map_err(failed)?;
        }
        Ok(Self { path })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if read(&self.path) == Some(getpid().as_raw()) {
            // Left behind, it is stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(format!("{}\n", getpid()).as_bytes())?;
    file.sync_all()
}

fn read(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok().filter(|pid| *pid > 0)
}

/// The other process that owns the file, if it runs. A signal is refused to processes of other users: as in Celery,
/// these are no workers of this file.
fn owner(path: &Path) -> Option<i32> {
    let pid = read(path)?;
    (pid != getpid().as_raw() && kill(Pid::from_raw(pid), None).is_ok()).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_keeps_others_out_while_its_process_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.pid");
        let file = PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(PidFile::create(&path).unwrap());
        assert!(!path.exists(), "a file of this very process is replaced and removed");
        drop(file);

        fs::write(&path, format!("{}\n", std::os::unix::process::parent_id())).unwrap();
        let error = PidFile::create(&path).unwrap_err();
        assert!(matches!(error, ProcessError::Locked { .. }), "{error}");
        assert_eq!(error.exit_code(), 73);
        for stale in ["", "none\n", "2147483647\n"] {
            fs::write(&path, stale).unwrap();
            drop(PidFile::create(&path).unwrap());
            assert!(!path.exists());
        }
        let error = PidFile::create(&folder.path().join("no/such/w.pid")).unwrap_err();
        assert!(matches!(error, ProcessError::Pidfile { .. }), "{error}");
    }
}
