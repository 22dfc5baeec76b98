//! A broker, workers with the tasks of the golden samples, and Python as the client.

use std::process::Command;
use std::time::Duration;

use compat_tests::{Process, PythonEnv, RedisServer, binary, eventually, scratch_dir, secs, workspace_root};
use serde_json::Value as Json;
use tempfile::TempDir;

/// How long anything may take that should be quick, on a busy machine.
pub(crate) const SOON: Duration = secs(30);

pub(crate) struct Stage {
    pub(crate) redis: RedisServer,
    folder: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = scratch_dir("vectors");
        std::fs::write(folder.path().join("vec_client.py"), include_str!("vec_client.py"))
            .expect("the client's code is written");
        Self { redis: RedisServer::start(), folder }
    }

    /// A worker that is ready; `-c 1` and more, as `celery worker` takes it.
    pub(crate) fn worker(&self, arguments: &str) -> Process {
        self.worker_with(arguments, &[])
    }

    /// A worker with more settings, such as `CELERY_RESULT_EXTENDED`.
    pub(crate) fn worker_with(&self, arguments: &str, settings: &[(&str, &str)]) -> Process {
        let mut command = Command::new(binary("vectors-worker"));
        command.args(arguments.split_whitespace()).args(["-l", "info"]).envs(settings.iter().copied());
        command.env("CELERY_BROKER_URL", self.redis.url()).env("CELERY_RESULT_BACKEND", self.redis.url());
        let mut worker = Process::spawn("vectors-worker", &command);
        worker.wait_for_line(" ready", SOON);
        worker
    }

    /// Runs Python code that has the client and `sig(name, *args)`; returns the JSON that it shows last.
    #[track_caller]
    pub(crate) fn script(&self, code: &str) -> Json {
        let code = format!("from vec_client import *\n{code}");
        let command = PythonEnv::get().script(&code).env("PYTHONPATH", self.folder.path());
        let command = command.current_dir(self.folder.path()).deadline(secs(120));
        let url = self.redis.url();
        let output =
            command.env("CELERY_BROKER_URL", &url).env("CELERY_RESULT_BACKEND", &url).run().success();
        let shown = output.lines().last().unwrap_or("null");
        serde_json::from_str(shown).unwrap_or_else(|error| panic!("no JSON: {error}: {output}"))
    }

    /// Messages in the queue, and messages that a worker holds.
    pub(crate) fn waiting_and_held(&self) -> (i64, i64) {
        let mut redis = self.redis.connection();
        let waiting = redis::cmd("LLEN").arg("celery").query(&mut redis).expect("the length of the queue");
        (waiting, redis::cmd("HLEN").arg("unacked").query(&mut redis).expect("the messages held"))
    }

    #[track_caller]
    pub(crate) fn await_waiting_and_held(&self, waiting: i64, held: i64) {
        eventually(&format!("{waiting} messages wait, {held} are held"), SOON, || {
            let found = self.waiting_and_held();
            if found == (waiting, held) { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
}

/// A golden sample by its path below `compat-tests/vectors`.
pub(crate) fn sample(path: &str) -> Json {
    let path = workspace_root().join("compat-tests/vectors").join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
