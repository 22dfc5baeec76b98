//! A broker with workers on it, Celery's and ours, and Celery's tools.

use std::process::Command;
use std::time::Duration;

use compat_tests::{Process, PythonCommand, PythonEnv, RedisServer, binary, scratch_dir, secs};
use serde_json::Value as Json;
use tempfile::TempDir;

/// The app of `tools_app.py` on a private broker.
pub(crate) struct Stage {
    pub(crate) redis: RedisServer,
    folder: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::on(RedisServer::start())
    }

    pub(crate) fn on(redis: RedisServer) -> Self {
        let folder = scratch_dir("control");
        std::fs::write(folder.path().join("tools_app.py"), include_str!("tools_app.py")).unwrap();
        std::fs::write(folder.path().join("tools.py"), include_str!("tools.py")).unwrap();
        Self { redis, folder }
    }

    /// A worker in Rust that is ready; `-n NAME` and more, as `celery worker` takes it.
    pub(crate) fn rust_worker(&self, arguments: &str) -> Process {
        let mut command = Command::new(binary("tools-worker"));
        command.args(["-l", "info"]).args(arguments.split_whitespace());
        command.env("CELERY_BROKER_URL", self.redis.url()).env("CELERY_RESULT_BACKEND", self.redis.url());
        command.env("CELERY_WORKER_POOL_RESTARTS", "1");
        let mut worker = Process::spawn(arguments, &command);
        worker.wait_for_line(" ready", SOON);
        worker
    }

    /// A worker of Celery that is ready.
    pub(crate) fn python_worker(&self, arguments: &str) -> Process {
        self.python_worker_with("{}", arguments)
    }

    /// The same with those transport options, which are JSON.
    pub(crate) fn python_worker_with(&self, options: &str, arguments: &str) -> Process {
        let command = self.python(["-m", "celery", "-A", "tools_app", "worker", "-l", "info"], arguments);
        let mut worker = command.env("TOOLS_TRANSPORT_OPTIONS", options).spawn();
        worker.wait_for_line(" ready", secs(150));
        worker
    }

    /// `celery -A tools_app ARGUMENTS`
    pub(crate) fn celery(&self, arguments: &str) -> PythonCommand {
        self.python(["-m", "celery", "-A", "tools_app"], arguments)
    }

    /// Runs Python code that has the app, its tasks, and what `tools.py` has; returns the JSON that it prints last.
    #[track_caller]
    pub(crate) fn script(&self, code: &str) -> Json {
        self.script_within(secs(100), code)
    }

    #[track_caller]
    pub(crate) fn script_within(&self, deadline: Duration, code: &str) -> Json {
        let code = format!("from tools import *\n{code}");
        let output = self.environment(PythonEnv::get().script(&code)).deadline(deadline).run().success();
        let line = output.lines().last().unwrap_or_default();
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("no JSON: {error}\n{}", &output[..output.len().min(4000)]))
    }

    /// A program of the Python environment, with this stage's broker.
    pub(crate) fn program(&self, name: &str, arguments: &[&str]) -> PythonCommand {
        self.environment(PythonEnv::get().program(name, arguments))
    }

    /// A client in Rust.
    pub(crate) fn client(&self) -> celeriac::Celery {
        let mut config = celeriac::config::Config::default();
        config.set("broker_url", &self.redis.url()).unwrap();
        config.set("result_backend", &self.redis.url()).unwrap();
        celeriac::Celery::new("tools", config).unwrap()
    }

    /// All keys in the broker, except those of workers at work and of bindings.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut self.redis.connection()).unwrap();
        keys.retain(|key| !key.starts_with("_kombu.") && !key.starts_with("celeriac."));
        keys.sort();
        keys
    }

    fn python<const N: usize>(&self, first: [&str; N], arguments: &str) -> PythonCommand {
        let arguments: Vec<&str> = first.into_iter().chain(arguments.split_whitespace()).collect();
        self.environment(PythonEnv::get().python(arguments))
    }

    /// A program in this stage's folder, with its broker.
    pub(crate) fn environment(&self, command: PythonCommand) -> PythonCommand {
        command
            .current_dir(self.folder.path())
            .env("PYTHONPATH", self.folder.path())
            .env("CELERY_BROKER_URL", self.redis.url())
            .env("CELERY_RESULT_BACKEND", self.redis.url())
    }
}

/// What a value is made of: names and types, no values; the elements of a list must be alike.
pub(crate) fn shape(value: &Json) -> Json {
    match value {
        Json::Null => "null".into(),
        Json::Bool(_) => "bool".into(),
        Json::Number(_) => "number".into(),
        Json::String(_) => "text".into(),
        Json::Array(items) => {
            let mut shapes: Vec<Json> = items.iter().map(shape).collect();
            shapes.dedup();
            shapes.into()
        }
        Json::Object(entries) => entries
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// How long anything may take that should be quick.
pub(crate) const SOON: Duration = Duration::from_secs(60);
