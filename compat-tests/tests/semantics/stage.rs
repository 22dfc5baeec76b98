//! A broker with one worker: Celery's own, or ours.

use std::process::Command;

use compat_tests::{Process, PythonEnv, RedisServer, binary, eventually, scratch_dir, secs};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// The queues of `semantics_app.py`.
pub(crate) const QUEUES: &str = r#"[
    {"name": "celery"},
    {"name": "everything", "exchange": "media", "exchange_type": "topic", "routing_key": "media.#"},
    {"name": "videos", "exchange": "media", "exchange_type": "topic", "routing_key": "media.*.video"},
    {"name": "keyed", "exchange": "shop", "routing_key": "orders"},
    {"name": "news", "exchange": "news", "exchange_type": "fanout"}
]"#;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Celery,
    Ours,
}

pub(crate) struct Stage {
    pub(crate) redis: RedisServer,
    folder: TempDir,
    kind: Kind,
    settings: Json,
}

impl Stage {
    pub(crate) fn new(kind: Kind) -> Self {
        let folder = scratch_dir("semantics");
        std::fs::write(folder.path().join("semantics_app.py"), include_str!("semantics_app.py")).unwrap();
        Self { redis: RedisServer::start(), folder, kind, settings: json!({}) }
    }

    /// A stage whose workers and clients have more settings, as a JSON object.
    pub(crate) fn with_settings(kind: Kind, settings: Json) -> Self {
        Self { settings, ..Self::new(kind) }
    }

    /// Starts the worker; it need not be ready.
    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        self.start_of(self.kind, "w@host", arguments)
    }

    fn start_of(&self, kind: Kind, name: &str, arguments: &[&str]) -> Process {
        let start = ["-n", name, "-l", "info"];
        let arguments = start.iter().chain(arguments);
        match kind {
            Kind::Celery => {
                let command = ["-A", "semantics_app", "worker"].iter().chain(arguments);
                let command = PythonEnv::get().celery(command).current_dir(self.folder.path());
                let command = command.env("CELERY_BROKER_URL", self.redis.url());
                let command = command.env("SEMANTICS_SETTINGS", self.settings.to_string());
                command.env("CELERY_RESULT_BACKEND", self.redis.url()).spawn()
            }
            Kind::Ours => {
                let mut command = Command::new(binary("semantics-worker"));
                command.args(arguments).args(["-E"]).env("CELERY_TASK_QUEUES", QUEUES);
                command.env("CELERY_BROKER_URL", self.redis.url());
                command.env("CELERY_RESULT_BACKEND", self.redis.url());
                command.env("CELERY_ACCEPT_CONTENT", "json,msgpack,yaml");
                for (name, value) in self.settings.as_object().expect("an object") {
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    command.env(format!("CELERY_{}", name.to_uppercase()), value);
                }
                Process::spawn("semantics-worker", &command)
            }
        }
    }

    /// A worker that is ready.
    pub(crate) fn worker(&self, arguments: &[&str]) -> Process {
        self.worker_of(self.kind, "w@host", arguments)
    }

    /// A worker of either kind that is ready.
    pub(crate) fn worker_of(&self, kind: Kind, name: &str, arguments: &[&str]) -> Process {
        let mut worker = self.start_of(kind, name, arguments);
        worker.wait_for_line(" ready", secs(150));
        worker
    }

    /// What `sem.told` was told, by any worker.
    pub(crate) fn told(&self) -> Vec<String> {
        redis::cmd("LRANGE").arg("told").arg(0).arg(-1).query(&mut self.redis.connection()).unwrap()
    }

    #[track_caller]
    pub(crate) fn await_told(&self, news: &str, times: usize) {
        eventually(&format!("{news:?} is told {times} times"), secs(60), || match self.told() {
            told if told.iter().filter(|told| *told == news).count() == times => Ok(()),
            told => Err(format!("{told:?}")),
        });
    }

    /// What a client observes in a scenario.
    #[track_caller]
    pub(crate) fn observe(&self, scenario: &str) -> Json {
        let command = PythonEnv::get().python(["semantics_app.py", scenario]).current_dir(self.folder.path());
        let command = command.env("CELERY_BROKER_URL", self.redis.url()).deadline(secs(180));
        let command = command.env("SEMANTICS_SETTINGS", self.settings.to_string());
        let output = command.env("CELERY_RESULT_BACKEND", self.redis.url()).run().success();
        let mut found: Json = serde_json::from_str(output.lines().last().unwrap_or("null")).unwrap();
        found[scenario].take()
    }
}

/// What is observed at either, which is the same.
#[track_caller]
pub(crate) fn observed_at_both(observe: impl Fn(&Stage) -> Json) -> Json {
    let theirs = observe(&Stage::new(Kind::Celery));
    let ours = observe(&Stage::new(Kind::Ours));
    assert_eq!(ours, theirs, "\nours   {ours}\ntheirs {theirs}");
    theirs
}
