//! Setting a worker up.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::autoscale::Bounds;
use super::hooks::Hooks;
use super::layers::Layers;
use super::metrics::Metrics;
#[cfg(feature = "cli")]
use super::program::Program;
use crate::app::Celery;
use crate::control::Commands;
use crate::task::{States, Task};

/// A worker that is being set up.
///
/// # Effects on the process
///
/// A worker shares its process with the program around it. Beyond tasks of the runtime and connections it has these
/// effects, each of which a program can leave out:
///
/// - Handlers of the signals TERM, INT, QUIT, HUP, USR1 and USR2, which stay when the worker has ended, and a thread for
///   the last two; HUP starts the program again. [`Worker::without_signals`] leaves all of them out.
/// - A hook in front of the program's panic hook: [`Worker::without_panic_hook`].
/// - Child processes, and a handler of CHLD, if a task asks for the pool `process` or the setting `worker_pool` does.
///   Only such a child ends with `exit`, together with its worker.
/// - Threads: one for remote control and events, and one for each task that is an `fn` while it runs.
/// - A port, if `celeriac_probe_address` is set, and a file, if `worker_state_db` is.
/// - Only with [`Worker::from_args`]: pid and log file, logger, working directory, umask, user and group, and `exit` when
///   the command line cannot be used.
///
/// It never changes environment variables.
///
/// ```no_run
/// use celeriac::prelude::*;
///
/// #[celeriac::task(name = "proj.tasks.add")]
/// async fn add(x: i64, y: i64) -> TaskResult<i64> {
///     Ok(x + y)
/// }
///
/// # async fn example() -> celeriac::Result<()> {
/// let app = Celery::from_env("proj")?;
/// let stopped = Worker::new(app).task(add).run().await?;
/// std::process::exit(stopped.exit_code());
/// # }
/// ```
#[must_use = "a worker does nothing until it is run"]
pub struct Worker {
    pub(super) app: Celery,
    pub(super) states: States,
    pub(super) hostname: Option<String>,
    pub(super) queues: Option<Vec<String>>,
    pub(super) stop: CancellationToken,
    pub(super) handles_signals: bool,
    pub(super) hooks_panics: bool,
    pub(super) parts: Parts,
    pub(super) commands: Commands,
    pub(super) autoscale: Option<Bounds>,
    pub(super) hooks: Hooks,
    pub(super) layers: Layers,
    pub(super) metrics: Metrics,
    #[cfg(feature = "cli")]
    pub(super) program: Option<Program>,
    #[cfg(feature = "testing")]
    pub(super) observer: super::testing::Observer,
}

/// The parts of a worker that can be left out.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) without_gossip: bool,
    pub(super) without_mingle: bool,
    pub(super) without_heartbeat: bool,
    /// Whether nothing runs beside the tasks: no remote control, events, heartbeats or probes.
    pub(super) without_service: bool,
    pub(super) heartbeat_interval: Duration,
}

impl Worker {
    /// A worker of that application, with the tasks that it knows.
    pub fn new(app: Celery) -> Self {
        Self {
            app,
            states: States::default(),
            hostname: None,
            queues: None,
            stop: CancellationToken::new(),
            handles_signals: true,
            hooks_panics: true,
            parts: Parts {
                without_gossip: false,
                without_mingle: false,
                without_heartbeat: false,
                without_service: false,
                heartbeat_interval: Duration::from_secs(2),
            },
            commands: Commands::default(),
            autoscale: None,
            hooks: Hooks::default(),
            layers: Layers::default(),
            metrics: Metrics::default(),
            #[cfg(feature = "cli")]
            program: None,
            #[cfg(feature = "testing")]
            observer: super::testing::Observer::default(),
        }
    }

    /// Adds a task.
    pub fn task(mut self, task: impl Task) -> Self {
        self.app = self.app.task(task);
        self
    }

    /// Adds state that tasks find by its type.
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.states = self.states.with(state);
        self
    }

    /// Sets the node name; default `celery@HOST`. `%h`, `%n` and `%d` stand for host, name and domain.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.hostname = Some(name.into());
        self
    }

    /// Sets the queues to consume from; default those of `task_queues`, or the default queue.
    pub fn queues(mut self, queues: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// Adds commands of your own to those of remote control.
    pub fn commands(mut self, commands: Commands) -> Self {
        self.commands = commands;
        self
    }

    /// What the worker counts, for Prometheus.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Shuts the worker down warm when that token is cancelled.
    pub fn stop_on(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// Leaves the signals TERM, INT and QUIT to the program.
    pub fn without_signals(mut self) -> Self {
        self.handles_signals = false;
        self
    }

    /// Leaves the program's panic hook as it is.
    ///
    /// By default the worker puts a hook in front of it that notes the place and backtrace of a panic in a task, which
    /// become the traceback of its failure, and then calls the program's hook. Without it, failures by panics have no
    /// traceback.
    pub fn without_panic_hook(mut self) -> Self {
        self.hooks_panics = false;
        self
    }
}
