//! A broker, the worker `pools-worker` on it, and Celery's client.

use std::process::Command;

use compat_tests::{Process, PythonEnv, RedisServer, binary, secs};
use serde_json::Value as Json;

/// What every script begins with.
const PRELUDE: &str = r#"
import json, os, time, uuid
from celery import Celery
app = Celery(broker=os.environ["BROKER"], backend=os.environ["BROKER"])
redis = app.backend.client

def call(name, *args, **options):
    return app.send_task(name if "." in name else "pools." + name, args, **options)

def outcome(result, timeout=60):
    """The value, or [class, text] of the exception that is raised."""
    try:
        return result.get(timeout=timeout)
    except Exception as error:
        return [type(error).__module__ + "." + type(error).__name__, str(error)]

def eventually(check, what="", timeout=30):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.02)
    raise SystemExit(f"not in time: {what}")
"#;

/// A private broker.
pub(crate) struct Bench {
    pub(crate) redis: RedisServer,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { redis: RedisServer::start() }
    }

    /// A worker that is ready; arguments as `celery worker` takes them.
    pub(crate) fn worker(&self, arguments: &str) -> Process {
        let mut command = Command::new(binary("pools-worker"));
        command.args(["-l", "info", "-c", "2", "--worker-proc-alive-timeout", "60"]);
        command.args(arguments.split_whitespace());
        command.env("CELERY_BROKER_URL", self.redis.url()).env("CELERY_RESULT_BACKEND", self.redis.url());
        let mut worker = Process::spawn("pools-worker", &command);
        worker.wait_for_line(" ready", secs(30));
        worker
    }

    /// The worker of the README, as its command line says; not necessarily ready.
    pub(crate) fn readme_worker(&self, arguments: &str) -> Process {
        Process::spawn("readme-worker", &self.readme_command(arguments))
    }

    /// How the worker of the README is started.
    pub(crate) fn readme_command(&self, arguments: &str) -> Command {
        let mut command = Command::new(binary("readme-worker"));
        command.args(arguments.split_whitespace());
        command.env("CELERY_BROKER_URL", self.redis.url()).env("CELERY_RESULT_BACKEND", self.redis.url());
        command.env("CELERY_WORKER_PROC_ALIVE_TIMEOUT", "60");
        command
    }

    /// Runs Python code and returns the JSON that it prints last.
    #[track_caller]
    pub(crate) fn script(&self, code: &str) -> Json {
        let code = format!("{PRELUDE}\n{code}");
        let command = PythonEnv::get().script(&code).env("BROKER", self.redis.url());
        let output = command.deadline(secs(600)).run().success();
        let line = output.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON: {error}\n{output}"))
    }
}
