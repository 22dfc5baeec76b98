//! A broker, a worker on it, and Celery's client.

use std::process::Command;

use compat_tests::{Finished, Process, PythonEnv, RedisServer, binary, run, scratch_dir, secs};
use serde_json::Value as Json;
use tempfile::TempDir;

/// What every script begins with.
const PRELUDE: &str = r#"
import json, os, sys, uuid
from celery import Celery
app = Celery(broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"])
app.set_default()
redis = app.backend.client

def outcome(result, timeout=60):
    """The value, or [class, text] of the exception that is raised."""
    try:
        return result.get(timeout=timeout)
    except Exception as error:
        return [type(error).__module__ + "." + type(error).__name__, str(error)]
"#;

pub(crate) struct Stage {
    pub(crate) redis: RedisServer,
    pub(crate) folder: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self { redis: RedisServer::start(), folder: scratch_dir("typed") }
    }

    /// A program of this workspace on the broker, with these settings.
    pub(crate) fn program(&self, name: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(binary(name));
        command.args(arguments).envs(settings.iter().copied()).current_dir(self.folder.path());
        command.env("CELERY_BROKER_URL", self.redis.url()).env("CELERY_RESULT_BACKEND", self.redis.url());
        command
    }

    /// A worker that is ready.
    pub(crate) fn worker(&self, settings: &[(&str, &str)]) -> Process {
        let command = self.program("typed-worker", &["-c", "2", "-l", "info"], settings);
        let mut worker = Process::spawn("typed-worker", &command);
        worker.wait_for_line(" ready", secs(30));
        worker
    }

    /// Runs a program of this workspace to its end.
    pub(crate) fn run(&self, name: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Finished {
        run(&self.program(name, arguments, settings), secs(60))
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("a file is written");
    }

    /// Runs Python code in the stage's folder and returns the JSON that it prints last.
    #[track_caller]
    pub(crate) fn script(&self, code: &str) -> Json {
        let url = self.redis.url();
        let command = PythonEnv::get().script(&format!("{PRELUDE}\n{code}")).current_dir(self.folder.path());
        let command = command.env("CELERY_BROKER_URL", &url).env("CELERY_RESULT_BACKEND", &url);
        let output = command.env("PYTHONPATH", self.folder.path()).deadline(secs(120)).run().success();
        let line = output.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON: {error}\n{output}"))
    }
}
