//! A broker to be broken, workers to be killed, and a second Redis that remembers what ran.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use celeriac::Celery;
use celeriac::canvas::group;
use celeriac::config::Config;
use celeriac::message::Signature;
use compat_tests::{Process, PythonEnv, RedisOptions, RedisServer, binary, scratch_dir, secs, size};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How long a repair may take under `visibility_timeout` 5, with a margin for a busy machine.
pub(crate) const REPAIRED: Duration = secs(60);

/// Where broker and results are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    OneDatabase,
    /// Of one server.
    TwoDatabases,
    TwoServers,
}

impl Layout {
    pub(crate) const ALL: [Self; 3] = [Self::OneDatabase, Self::TwoDatabases, Self::TwoServers];
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneDatabase => "one database",
            Self::TwoDatabases => "two databases",
            Self::TwoServers => "two servers",
        })
    }
}

pub(crate) struct Stage {
    pub(crate) redis: RedisServer,
    pub(crate) record: RedisServer,
    /// More environment of the Rust workers.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) runtime: Runtime,
    /// The database of the broker's server that keeps the results; 0 is the broker's own.
    pub(crate) results: u8,
    /// Whether that has another name, so that it counts as another server's.
    apart: bool,
    /// The queues of the Rust workers, if not those of their settings.
    pub(crate) queues: Option<String>,
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
            results: 0,
            apart: false,
            queues: None,
            folder,
        }
    }

    /// Gives the Rust workers another setting, such as `TASK_ACKS_LATE`.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.push(setting(name, value));
    }

    /// Keeps the results in another database than the broker's.
    pub(crate) fn two_databases(mut self) -> Self {
        self.results = 1;
        self
    }

    /// Keeps the results where they cannot be known to be at the broker's server.
    pub(crate) fn two_servers(mut self) -> Self {
        (self.results, self.apart) = (1, true);
        self
    }

    pub(crate) fn with(self, layout: Layout) -> Self {
        match layout {
            Layout::OneDatabase => self,
            Layout::TwoDatabases => self.two_databases(),
            Layout::TwoServers => self.two_servers(),
        }
    }

    /// The path of a file of the stage.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A worker in Rust that is ready.
    #[track_caller]
    pub(crate) fn worker(&self, name: &str, concurrency: usize) -> Process {
        self.worker_at(&self.redis.url(), name, concurrency)
    }

    /// A worker in Rust that reaches the broker at another URL.
    #[track_caller]
    pub(crate) fn worker_at(&self, url: &str, name: &str, concurrency: usize) -> Process {
        self.spawn(&self.command(url, name, concurrency), name)
    }

    /// A worker in Rust that is ready, and to which `faults` are to happen (`CELERIAC_FAILPOINTS`).
    #[track_caller]
    pub(crate) fn victim(&self, faults: &str, concurrency: usize) -> Process {
        let mut command = self.command(&self.redis.url(), "victim", concurrency);
        command.env("CELERIAC_FAILPOINTS", faults);
        self.spawn(&command, &format!("victim of {faults}"))
    }

    /// A worker of the previous release that is ready: `PREVIOUS_WORKER`, its `faults-worker`. Before the second release
    /// that is this release.
    #[track_caller]
    pub(crate) fn previous_worker(&self, name: &str, concurrency: usize) -> Process {
        let program =
            std::env::var_os("PREVIOUS_WORKER").map_or_else(|| binary("faults-worker"), PathBuf::from);
        self.spawn(&self.command_of(program, &self.redis.url(), name, concurrency), name)
    }

    /// What starts a worker in Rust.
    pub(crate) fn command(&self, url: &str, name: &str, concurrency: usize) -> Command {
        self.command_of(binary("faults-worker"), url, name, concurrency)
    }

    fn command_of(&self, program: PathBuf, url: &str, name: &str, concurrency: usize) -> Command {
        let mut command = Command::new(program);
        command.args(["-n", &format!("{name}@host"), "-c", &concurrency.to_string(), "-l", "info"]);
        command.args(["--without-mingle", "--without-gossip"]);
        if let Some(queues) = &self.queues {
            command.args(["-Q", queues]);
        }
        command.env("CELERY_BROKER_URL", url).env("CELERY_RESULT_BACKEND", self.results_url(url));
        command.env("FAULTS_RECORD_URL", self.record.url());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts a worker and waits until it is ready.
    #[track_caller]
    pub(crate) fn spawn(&self, command: &Command, name: &str) -> Process {
        let mut worker = Process::spawn(name, command);
        worker.wait_for_line(" ready", secs(30));
        worker
    }

    /// Where results are kept when the broker is at that URL.
    fn results_url(&self, broker: &str) -> String {
        let Some(server) = broker.strip_suffix("/0") else { return broker.to_owned() };
        let server = if self.apart { server.replace("127.0.0.1", "localhost") } else { server.to_owned() };
        format!("{server}/{}", self.results)
    }

    /// `celeriac ARGUMENTS`
    pub(crate) fn celeriac(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("celeriac"));
        command.args(arguments).env("CELERY_BROKER_URL", self.redis.url());
        command.env("CELERY_RESULT_BACKEND", self.results_url(&self.redis.url()));
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A worker of Celery that is ready.
    pub(crate) fn stock_worker(&self, concurrency: usize) -> Process {
        let arguments = ["-l", "info", "--without-mingle", "--without-gossip", "-n", "stock@host", "-c"];
        let mut worker = self.celery("worker", &[&arguments[..], &[&concurrency.to_string()]].concat());
        worker.wait_for_line(" ready", secs(60));
        worker
    }

    /// `celery -A faults_app COMMAND ARGUMENTS`
    pub(crate) fn celery(&self, command: &str, arguments: &[&str]) -> Process {
        PythonEnv::get()
            .celery(["-A", "faults_app", command].into_iter().chain(arguments.iter().copied()))
            .current_dir(self.folder.path())
            .env("PYTHONPATH", self.folder.path())
            .env("CELERY_BROKER_URL", self.redis.url())
            .env("CELERY_RESULT_BACKEND", self.results_url(&self.redis.url()))
            .env("FAULTS_RECORD_URL", self.record.url())
            .spawn()
    }

    /// A client in Rust.
    pub(crate) fn client(&self) -> Celery {
        self.client_at(&self.redis.url())
    }

    pub(crate) fn client_at(&self, url: &str) -> Celery {
        let mut config = Config::default();
        config.set("broker_url", url).unwrap();
        config.set("result_backend", &self.results_url(url)).unwrap();
        // Thousands of tasks at once take their time on a busy machine.
        config.set("celeriac_publish_timeout", "60").unwrap();
        Celery::new("faults", config).unwrap()
    }

    /// Sends `count` tasks that take `seconds`, numbered from `first`.
    pub(crate) fn send(&self, task: &str, first: usize, count: usize, seconds: f64) {
        let numbers = (first..first + count).map(|number| number as i64);
        let tasks = group(numbers.map(|number| Signature::new(task).arg(number).arg(seconds)));
        self.runtime.block_on(self.client().apply(tasks)).expect("the broker takes tasks");
    }
}

fn setting(name: &str, value: &str) -> (String, String) {
    (format!("CELERY_{name}"), value.to_owned())
}

/// Does the same with each item, many at a time: most of a repair is waiting.
pub(crate) fn at_once<T: Send>(items: impl Iterator<Item = T> + Send, act: impl Fn(T) + Sync) {
    let items = Mutex::new(items);
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| std::iter::from_fn(next).for_each(&act));
        }
    });
}

/// How many times a loop of faults is repeated: `FAULTS_SOAK` makes it longer.
pub(crate) fn rounds(usual: usize) -> usize {
    usual * size("FAULTS_SOAK", 1).max(1)
}
