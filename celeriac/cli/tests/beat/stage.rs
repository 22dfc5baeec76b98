//! A Redis and beats on it.

use std::path::Path;
use std::process::Command;

use compat_tests::{Process, RedisServer, run, scratch_dir, secs};
use redis::Commands;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Stage {
    pub(crate) server: RedisServer,
    pub(crate) folder: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self { server: RedisServer::options().append_only().start(), folder: scratch_dir("beat") }
    }

    /// A file in the stage's folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `celeriac beat` with those arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_celeriac"));
        command.env_clear().current_dir(self.folder.path());
        command.args(["-b", &self.server.url(), "beat", "-l", "INFO"]).args(arguments);
        command
    }

    pub(crate) fn beat(&self, arguments: &[&str]) -> Process {
        Process::spawn("celeriac beat", &self.command(arguments))
    }

    /// What a command of `celeriac beat` prints.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        run(&self.command(arguments), secs(30)).success()
    }

    /// The messages that wait in a queue, the oldest first.
    pub(crate) fn messages(&self, queue: &str) -> Vec<Value> {
        let texts: Vec<String> = self.server.connection().lrange(queue, 0, -1).unwrap();
        texts.iter().rev().map(|text| serde_json::from_str(text).unwrap()).collect()
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
