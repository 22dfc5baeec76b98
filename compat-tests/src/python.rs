//! The pinned Python environment: real Celery, Flower and their friends.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::binary::workspace_root;
use crate::eventually::secs;
use crate::process::Process;
use crate::run::{Finished, run};

/// The virtual environment that `scripts/setup` makes from `compat-tests/requirements.txt`.
///
/// `COMPAT_VENV` names another one, with another version of Celery.
pub struct PythonEnv {
    folder: PathBuf,
}

impl PythonEnv {
    /// The environment of the workspace.
    ///
    /// # Panics
    /// When it was not made; the message says how to.
    #[track_caller]
    pub fn get() -> Self {
        let folder =
            std::env::var_os("COMPAT_VENV").map_or_else(|| workspace_root().join(".venv"), PathBuf::from);
        let celery = folder.join("bin/celery");
        assert!(celery.exists(), "{} is missing; hint: ./scripts/setup test", celery.display());
        Self { folder }
    }

    /// The environment of exporters to Prometheus, from `compat-tests/requirements-exporters.txt`.
    ///
    /// # Panics
    /// When it was not made; the message says how to.
    #[track_caller]
    pub fn exporters() -> Self {
        let folder = workspace_root().join(".venv-exporters");
        let stamp = folder.join("requirements.sha256");
        assert!(stamp.exists(), "{} is missing; hint: ./scripts/setup test", stamp.display());
        Self { folder }
    }

    /// `python ARGUMENTS`, such as `["-m", "app.tasks.reminders.send_due_reminders"]`.
    pub fn python<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> PythonCommand {
        self.program("python", arguments)
    }

    /// `python -c CODE`
    pub fn script(&self, code: &str) -> PythonCommand {
        self.python(["-c", code])
    }

    /// `celery ARGUMENTS`, such as `["-A", "app.celery_app", "call", "app.celery_app.ping"]`.
    pub fn celery<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> PythonCommand {
        self.program("celery", arguments)
    }

    /// Any other program of the environment, such as `pytest`.
    pub fn program<A: AsRef<OsStr>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> PythonCommand {
        let mut command = Command::new(self.bin_dir().join(name));
        let path = std::env::var("PATH").unwrap_or_default();
        command.args(arguments).env("PATH", format!("{}:{path}", self.bin_dir().display()));
        command.env("PYTHONUNBUFFERED", "1").env("PYTHONDONTWRITEBYTECODE", "1").env("C_FORCE_ROOT", "1");
        PythonCommand { name: name.into(), command, deadline: secs(60) }
    }

    /// The folder of its programs.
    pub fn bin_dir(&self) -> PathBuf {
        self.folder.join("bin")
    }
}

/// A Python program about to be run.
pub struct PythonCommand {
    name: String,
    command: Command,
    deadline: Duration,
}

impl PythonCommand {
    /// Sets an environment variable.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Runs in this folder.
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// How long [`PythonCommand::run`] may take; 60 s by default.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it still runs at the deadline.
    #[track_caller]
    pub fn run(self) -> Finished {
        run(&self.command, self.deadline)
    }

    /// Starts it, as a worker is started.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn spawn(self) -> Process {
        Process::spawn(self.name, &self.command)
    }
}
