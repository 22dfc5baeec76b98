//! The file that holds the process id, while the process runs.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::BeatError;

pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file; one of a process that is gone is replaced.
    pub(super) fn create(path: &Path) -> Result<Self, BeatError> {
        let failed =
            |reason: io::Error| BeatError::System { what: format!("pid file {}", path.display()), reason };
        if let Ok(text) = fs::read_to_string(path) {
            if let Ok(pid) = text.trim().parse::<u32>()
                && pid != std::process::id()
                && Path::new("/proc").join(pid.to_string()).exists()
            {
                return Err(BeatError::Runs { path: path.to_owned(), pid });
            }
            fs::remove_file(path).map_err(failed)?;
        }
        let mut file = fs::File::create_new(path).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
