//! A broker, and workers in Rust and of Celery with the same tasks.

use std::process::Command;
use std::time::Duration;

use celeriac::Celery;
use celeriac::config::Config;
use compat_tests::{Process, PythonCommand, PythonEnv, RedisServer, binary, scratch_dir, secs};
use tempfile::TempDir;

/// What dead workers held comes back after some seconds.
const TRANSPORT_OPTIONS: (&str, &str) = ("CELERY_BROKER_TRANSPORT_OPTIONS", r#"{"visibility_timeout": 10}"#);

/// How long anything may take that should be quick, on a busy machine.
pub(crate) const SOON: Duration = secs(150);

pub(crate) struct Stage {
    pub(crate) redis: RedisServer,
    pub(crate) folder: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = scratch_dir("canvases");
        for (name, text) in
            [("canvas_app.py", include_str!("canvas_app.py")), ("ends.py", include_str!("ends.py"))]
        {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self { redis: RedisServer::start(), folder }
    }

    /// A client in Rust.
    pub(crate) fn client(&self) -> Celery {
        let mut config = Config::default();
        config.set("broker_url", &self.redis.url()).unwrap();
        config.set("result_backend", &self.redis.url()).unwrap();
        Celery::new("client", config).unwrap()
    }

    /// A worker in Rust.
    pub(crate) fn worker(&self, concurrency: usize) -> Process {
        self.worker_with(concurrency, &[])
    }

    /// A worker in Rust with further settings, as environment variables.
    pub(crate) fn worker_with(&self, concurrency: usize, settings: &[(&str, &str)]) -> Process {
        let mut command = Command::new(binary("canvas-worker"));
        command.args(["-n", "rust@host", "-E", "-l", "info", "-c", &concurrency.to_string()]);
        command.args(["--result-extended", "--task-send-sent-event"]);
        command.env("CELERY_BROKER_URL", self.redis.url()).env("CELERY_RESULT_BACKEND", self.redis.url());
        command.env(TRANSPORT_OPTIONS.0, TRANSPORT_OPTIONS.1).envs(settings.iter().copied());
        Process::spawn("canvas-worker", &command)
    }

    /// A worker of Celery.
    pub(crate) fn stock_worker(&self, concurrency: usize) -> Process {
        let arguments = ["-A", "canvas_app", "worker", "-n", "stock@host", "-l", "warning", "-c"];
        let command = PythonEnv::get().celery(arguments.into_iter().chain([&*concurrency.to_string()]));
        self.placed(command).spawn()
    }

    /// `canvas_app.py ARGUMENTS`
    pub(crate) fn script(&self, arguments: &[&str]) -> PythonCommand {
        self.script_named("canvas_app.py", arguments)
    }

    /// A script of the folder with arguments.
    pub(crate) fn script_named(&self, script: &str, arguments: &[&str]) -> PythonCommand {
        let script = [script].into_iter().chain(arguments.iter().copied());
        self.placed(PythonEnv::get().python(script)).deadline(secs(3600))
    }

    /// What Python code prints.
    pub(crate) fn python(&self, code: &str) -> String {
        self.placed(PythonEnv::get().script(code)).run().success()
    }

    fn placed(&self, command: PythonCommand) -> PythonCommand {
        let command = command.current_dir(self.folder.path()).env("PYTHONPATH", self.folder.path());
        let command = command.env(TRANSPORT_OPTIONS.0, TRANSPORT_OPTIONS.1);
        command.env("CELERY_BROKER_URL", self.redis.url()).env("CELERY_RESULT_BACKEND", self.redis.url())
    }
}
