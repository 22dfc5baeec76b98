//! A broker, workers with the tasks of Celery's suite, and Python as the client.

use std::process::Command;

use compat_tests::{Process, PythonEnv, RedisServer, binary, secs};

/// What every script begins with.
const CLIENT: &str = r#"
import json, os, time
import redis
from celery import Celery, chain, chord, group

app = Celery("client", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.result_expires = int(os.environ.get("EXPIRES", "86400"))
traces = redis.Redis.from_url(os.environ["BROKER"])
stored = redis.Redis.from_url(os.environ["BACKEND"])

def task(name, *args):
    return app.signature("t.integration.tasks." + name, args=args)

def await_that(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found

def outcome(result):
    """The value, or the exception; `get` would raise that of a part."""
    result = app.AsyncResult(result.id)
    await_that(lambda: result.state in ("SUCCESS", "FAILURE"), f"{result.id} ends")
    value = result.result
    return f"{type(value).__name__}: {value}" if result.state == "FAILURE" else value
"#;

pub(crate) struct Stage {
    pub(crate) redis: RedisServer,
    backend_database: u8,
    expires: u32,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with_results_in(0)
    }

    pub(crate) fn with_results_in(backend_database: u8) -> Self {
        Self { redis: RedisServer::start(), backend_database, expires: 86_400 }
    }

    /// Results and counters of chords expire after so many seconds; 0 is never.
    pub(crate) fn expiring(expires: u32) -> Self {
        Self { expires, ..Self::new() }
    }

    /// A worker that is ready, with some settings.
    pub(crate) fn worker(&self, settings: &[(&str, &str)]) -> Process {
        let mut command = Command::new(binary("conformance-worker"));
        command.args(["-l", "info", "-c", "4"]).envs(settings.iter().copied());
        command.env("CELERY_RESULT_EXPIRES", self.expires.to_string());
        command
            .env("TEST_BROKER", self.redis.url())
            .env("TEST_BACKEND", self.redis.url_of_db(self.backend_database));
        command.env("REDIS_HOST", "127.0.0.1").env("REDIS_PORT", self.redis.port().to_string());
        let mut worker = Process::spawn("conformance-worker", &command);
        worker.wait_for_line(" ready", secs(60));
        worker
    }

    /// Runs a script of the client and returns what it prints.
    #[track_caller]
    pub(crate) fn run(&self, code: &str) -> String {
        let script = PythonEnv::get().script(&format!("{CLIENT}\n{code}")).deadline(secs(180));
        let script = script.env("BROKER", self.redis.url()).env("EXPIRES", self.expires.to_string());
        script.env("BACKEND", self.redis.url_of_db(self.backend_database)).run().success()
    }
}
