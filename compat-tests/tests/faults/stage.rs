//! A broker to be broken, workers to be killed, and a second Redis that remembers what ran.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use celeriac::Celery;
use celeriac::canvas::group;
use celeriac::config::Config;
use celeriac::message::Signature;
use compat_tests::{Process, PythonEnv, RedisOptions, RedisServer, binary, eventually, scratch_dir, secs};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How long a repair may take under `visibility_timeout` 5, with a margin for a busy machine.
pub(crate) const REPAIRED: Duration = secs(60);

pub(crate) struct Stage {
    pub(crate) redis: RedisServer,
    pub(crate) record: RedisServer,
    /// More environment of the Rust workers.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) runtime: Runtime,
    folder: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::on(RedisServer::options())
    }

    pub(crate) fn on(options: RedisOptions) -> Self {
        let folder = scratch_dir("faults");
        std::fs::write(folder.path().join("faults_app.py"), include_str!("faults_app.py")).unwrap();
        Self {
            redis: options.start(),
            record: RedisServer::start(),
            settings: vec![setting("BROKER_TRANSPORT_OPTIONS", r#"{"visibility_timeout": 5}"#)],
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            folder,
        }
    }

    /// Gives the Rust workers another setting, such as `TASK_ACKS_LATE`.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.push(setting(name, value));
    }

    /// A worker in Rust that is ready.
    #[track_caller]
    pub(crate) fn worker(&self, name: &str, concurrency: usize) -> Process {
        self.worker_at(&self.redis.url(), name, concurrency)
    }

    /// A worker in Rust that reaches the broker at another URL.
    #[track_caller]
    pub(crate) fn worker_at(&self, url: &str, name: &str, concurrency: usize) -> Process {
        let mut command = Command::new(binary("faults-worker"));
        command.args(["-n", &format!("{name}@host"), "-c", &concurrency.to_string(), "-l", "info"]);
        command.args(["--without-mingle", "--without-gossip"]);
        command.env("CELERY_BROKER_URL", url).env("CELERY_RESULT_BACKEND", url);
        command.env("FAULTS_RECORD_URL", self.record.url());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        let mut worker = Process::spawn(name, &command);
        worker.wait_for_line(" ready", secs(30));
        worker
    }

    /// A worker of Celery that is ready.
    pub(crate) fn stock_worker(&self, concurrency: usize) -> Process {
        let arguments = ["-A", "faults_app", "worker", "-l", "info", "--without-mingle", "--without-gossip"];
        let command = PythonEnv::get()
            .celery(arguments.into_iter().chain(["-n", "stock@host", "-c", &concurrency.to_string()]))
            .current_dir(self.folder.path())
            .env("PYTHONPATH", self.folder.path())
            .env("CELERY_BROKER_URL", self.redis.url())
            .env("CELERY_RESULT_BACKEND", self.redis.url())
            .env("FAULTS_RECORD_URL", self.record.url());
        let mut worker = command.spawn();
        worker.wait_for_line(" ready", secs(60));
        worker
    }

    /// A client in Rust.
    pub(crate) fn client(&self) -> Celery {
        self.client_at(&self.redis.url())
    }

    pub(crate) fn client_at(&self, url: &str) -> Celery {
        let mut config = Config::default();
        config.set("broker_url", url).unwrap();
        config.set("result_backend", url).unwrap();
        Celery::new("faults", config).unwrap()
    }

    /// Sends `count` tasks that take `seconds`, numbered from `first`.
    pub(crate) fn send(&self, task: &str, first: usize, count: usize, seconds: f64) {
        let numbers = (first..first + count).map(|number| number as i64);
        let tasks = group(numbers.map(|number| Signature::new(task).arg(number).arg(seconds)));
        self.runtime.block_on(self.client().apply(tasks)).expect("the broker takes tasks");
    }

    /// How often each number is in a list of the record.
    pub(crate) fn runs(&self, list: &str) -> BTreeMap<i64, usize> {
        let all: Vec<i64> =
            redis::cmd("LRANGE").arg(list).arg(0).arg(-1).query(&mut self.record.connection()).unwrap();
        let mut runs = BTreeMap::new();
        all.into_iter().for_each(|number| *runs.entry(number).or_insert(0) += 1);
        runs
    }

    /// Waits until the record has `count` different numbers in that list.
    #[track_caller]
    pub(crate) fn await_runs(&self, list: &str, count: usize, deadline: Duration) {
        eventually(&format!("{count} tasks in {list}"), deadline, || match self.runs(list).len() {
            length if length >= count => Ok(()),
            length => Err(format!("{length} of {count}; {}", self.held())),
        });
    }

    /// Waits until the broker holds nothing that is to be run.
    #[track_caller]
    pub(crate) fn await_empty(&self) {
        eventually("nothing is left in the broker", REPAIRED, || match self.held() {
            held if held.is_empty() => Ok(()),
            held => Err(held),
        });
    }

    /// What the broker holds for running: queue, `unacked`, `unacked_index`, in-flight lists, chords.
    pub(crate) fn held(&self) -> String {
        let mut connection = self.redis.connection();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
        let is_work = |key: &&String| {
            let in_flight = key.starts_with("celeriac.inflight.") && !key.ends_with(".committed");
            let chord = key.starts_with("celeriac.chords");
            in_flight
                || chord
                || key.starts_with("celery\u{6}")
                || key.starts_with("celeriac.deliveries")
                || ["celery", "unacked", "unacked_index"].contains(&key.as_str())
        };
        let mut held: Vec<String> = keys.iter().filter(is_work).cloned().collect();
        held.sort();
        held.join(" ")
    }

    /// How many unacknowledged messages are older than the visibility timeout, in seconds.
    pub(crate) fn overdue(&self, visibility_timeout: i64) -> i64 {
        let mut connection = self.redis.connection();
        let (now, _): (i64, i64) = redis::cmd("TIME").query(&mut connection).unwrap();
        let mut count = redis::cmd("ZCOUNT");
        count.arg("unacked_index").arg("-inf").arg(now - visibility_timeout - 1);
        count.query(&mut connection).unwrap()
    }

    /// One integer that the broker answers.
    pub(crate) fn ask(&self, command: &[&str]) -> i64 {
        let mut ask = redis::cmd(command[0]);
        command[1..].iter().for_each(|argument| {
            ask.arg(argument);
        });
        ask.query(&mut self.redis.connection()).unwrap()
    }

    /// Says what a scenario has counted, for the table of the fault tests.
    pub(crate) fn report(&self, scenario: &str, list: &str, tasks: usize) {
        let runs = self.runs(list);
        let lost = tasks - runs.len();
        let twice = runs.values().filter(|count| **count > 1).count();
        println!("| {scenario} | {tasks} tasks | lost {lost} | more than once {twice} |");
        assert_eq!(lost, 0, "{scenario}");
    }
}

fn setting(name: &str, value: &str) -> (String, String) {
    (format!("CELERY_{name}"), value.to_owned())
}

/// How many times a loop of faults is repeated: `FAULTS_SOAK` makes it longer.
pub(crate) fn rounds(usual: usize) -> usize {
    let factor = std::env::var("FAULTS_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    usual * std::cmp::max(factor, 1)
}
