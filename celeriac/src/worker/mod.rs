//! The worker: from a message to its acknowledgement.

mod autoscale;
#[cfg(feature = "cli")]
mod banner;
mod builtins;
mod chords;
mod commit;
mod completion;
mod deduplicate;
mod ending;
mod errbacks;
mod execute;
mod failure;
mod health;
mod hooks;
mod insist;
mod late_retry;
mod layers;
mod learn;
mod metrics;
mod panics;
mod place;
mod poison;
mod port;
mod processes;
#[cfg(feature = "cli")]
mod program;
mod queues;
mod rate_limits;
mod refused;
mod report;
mod request;
mod revocation;
mod runtime;
mod schedule;
mod shortage;
mod shutdown;
mod signals;
mod slots;
mod statedb;
#[cfg(feature = "testing")]
mod testing;
mod threads;
mod unfinished;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{ExitCode, Termination};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
/// What ends a worker from outside: [`Worker::stop_on`].
pub use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use hooks::Revocation;
pub use layers::Next;
pub use metrics::Metrics;

use crate::app::{Celery, Error, Result};
use crate::broker::refusals::Refusals;
use crate::broker::{ConsumerOptions, Persistence};
use crate::config::{Concurrency, Config, NodeName, Pool, RateLimit, expand_node_format};
use crate::control::{Commands, Revocations, Service, ServiceOptions, compare};
use crate::daemon;
use crate::events::{Dispatcher, DispatcherOptions};
use crate::failpoints::fail_point;
use crate::message::Accept;
use crate::node::WorkerState;
use crate::task::{States, Task, TaskDefinition};
use autoscale::{Autoscale, Bounds};
use health::Health;
use hooks::Hooks;
use layers::Layers;
use processes::{Child, Processes, is_child};
use rate_limits::RateLimits;
use runtime::Runtime;
use schedule::Schedule;
use shutdown::{End, shut_down, wait_for_end};
use signals::Signals;
use slots::Slots;
use statedb::StateDb;

/// A worker that is being set up.
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
    app: Celery,
    states: States,
    hostname: Option<String>,
    queues: Option<Vec<String>>,
    stop: CancellationToken,
    handles_signals: bool,
    hooks_panics: bool,
    parts: Parts,
    commands: Commands,
    autoscale: Option<Bounds>,
    hooks: Hooks,
    layers: Layers,
    metrics: Metrics,
    #[cfg(feature = "cli")]
    program: Option<program::Program>,
    #[cfg(feature = "testing")]
    observer: testing::Observer,
}

/// The parts of a worker that can be left out.
struct Parts {
    without_gossip: bool,
    without_mingle: bool,
    without_heartbeat: bool,
    heartbeat_interval: Duration,
}

/// Why a worker stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// Whether running tasks were ended rather than finished.
    pub is_cold: bool,
    /// Whether an interrupt (Ctrl-C) was the reason.
    pub is_interrupted: bool,
    /// Whether SIGHUP was the reason; then the program could not be started again.
    pub is_hangup: bool,
}

impl Stopped {
    /// The exit status that Celery's worker would have: 0 after a warm shutdown, else 1.
    pub fn exit_code(&self) -> i32 {
        i32::from(self.is_cold || self.is_interrupted)
    }
}

/// `main` may return what [`Worker::run`] returns; its exit status is [`Stopped::exit_code`].
impl Termination for Stopped {
    fn report(self) -> ExitCode {
        if self.exit_code() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
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
            observer: testing::Observer::default(),
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

    /// Runs until it is shut down: warm by TERM, cold by QUIT.
    ///
    /// HUP shuts down warm and then starts the program again, in the same process with the same arguments, unless it is
    /// attached to a terminal; `main` does not go on then. USR1 logs what tasks and threads do.
    ///
    /// For tasks of the pool `process` the program starts itself again, with the same arguments: `main` comes to this
    /// call there too, and runs the tasks that the worker hands over. So what stands before it should be quick and
    /// harmless to do again: it is done for each child process, at the first task and whenever a child is replaced.
    /// [`is_child_process`] tells the two apart; [`Worker::on_worker_init`] and [`Worker::on_worker_process_init`] are
    /// the places for what is to be done only in the worker, or only in its children.
    ///
    /// # Errors
    /// [`Error::Worker`] when a task lacks its state. A broker that is away is waited for as long as
    /// `broker_connection_retry`, `broker_connection_retry_on_startup` and `broker_connection_max_retries` say, by default
    /// for ever; then it is [`BrokerError::GaveUp`](crate::broker::BrokerError::GaveUp).
    pub async fn run(self) -> Result<Stopped> {
        if self.hooks_panics {
            panics::install();
        }
        let Self {
            app,
            states,
            hostname,
            queues,
            stop,
            handles_signals,
            hooks_panics: _,
            parts,
            commands,
            autoscale,
            hooks,
            layers,
            metrics,
            #[cfg(feature = "cli")]
            program,
            #[cfg(feature = "testing")]
            observer,
        } = self;
        check_states(&app, &states)?;
        let config = app.config();
        let hostname = NodeName::expand(hostname.as_deref()).to_string();
        let concurrency = match autoscale {
            Some(bounds) => bounds.min,
            None if config.worker_pool == Pool::Solo => 1,
            None => config.worker_concurrency.unwrap_or(Concurrency::Auto).slots(),
        };
        let queues = queues.unwrap_or_else(|| queues::default_names(config));
        let declared = queues::declare(config, &queues, &hostname)?;
        let registry = registry(&app);
        if is_child() {
            hooks::each(&hooks.worker_process_init, |hook| hook());
            let child = Child { app: app.clone(), states, layers, registry, hostname };
            let served = child.serve().await;
            served.map_err(|error| Error::Worker(format!("a child process lost its worker: {error}")))?;
            return Ok(Stopped::default());
        }
        #[cfg(feature = "cli")]
        let mut program = program;
        #[cfg(feature = "cli")]
        if let Some(program) = &mut program {
            program.begin()?;
        }
        let signals = if handles_signals { Signals::listen().ok() } else { None };
        hooks::each(&hooks.worker_init, |hook| hook());
        for remark in config.remarks() {
            log::warn!("{remark}");
        }
        let state = Arc::new(WorkerState::new(hostname.clone()));
        #[cfg(feature = "testing")]
        observer.get_or_init(|| Arc::clone(&state));
        let counters = metrics.start(&hostname).map_err(|error| Error::Worker(error.to_string()))?;
        let statedb = match statedb_path(config, &hostname) {
            Some(path) => {
                Some(StateDb::open(path, &state).map_err(|error| Error::Worker(error.to_string()))?)
            }
            None => None,
        };
        let (stopping, abort) = (CancellationToken::new(), CancellationToken::new());
        let refusals = Arc::<Refusals>::default();
        let lists = declared.iter().filter(|queue| !queues::is_broadcast(queue));
        let options = ConsumerOptions {
            worker: uuid::Uuid::new_v4().simple().to_string(),
            queues: lists.map(|queue| Arc::from(queue.name.as_str())).collect(),
            hostname: hostname.clone(),
            refusals: Arc::clone(&refusals),
            keeps_results: app.commits_together(),
        };
        let first = options.queues.first();
        let first = first.map_or_else(|| config.task_default_queue.clone(), |queue| queue.to_string());
        let restored = counters.restored.clone();
        let sweeping = app.broker().clone().restore_abandoned(
            config.clone(),
            first,
            Arc::clone(&refusals),
            restored,
            stopping.clone(),
        );
        let accept = accept(&app)?;
        let events = Dispatcher::new(
            DispatcherOptions {
                hostname: hostname.clone(),
                clock: state.clock.clone(),
                exchange: config.event_exchange.clone(),
                codec: app.codecs().codec(config.event_serializer.as_str())?,
                timezone: config.timezone_or_utc(),
            },
            config.worker_send_task_events,
        );
        let mut made: Option<Arc<Runtime>> = None;
        let consumer = app.broker().consumer(options, config, app.result_backend(), |consumer| {
            let runtime = Arc::new_cyclic(|this| Runtime {
                accept,
                state,
                states,
                consumer,
                slots: Arc::new(Slots::new(concurrency)),
                hooks,
                layers,
                counters,
                processes: Processes::new(app.config(), concurrency),
                rate_limits: RateLimits::default(),
                decoding: Semaphore::new(Concurrency::Auto.slots()),
                schedule: Schedule::default(),
                events: events.clone(),
                health: Arc::new(Health::new(Arc::clone(&refusals))),
                revocations: Revocations::new(app.broker().clone()),
                autoscale: Autoscale::new(autoscale),
                consumed: Mutex::default(),
                rate_texts: Mutex::default(),
                handle: tokio::runtime::Handle::current(),
                registry,
                time_limits: Mutex::default(),
                background: TaskTracker::new(),
                stopping: stopping.clone(),
                abort: abort.clone(),
                hurry: CancellationToken::new(),
                gives_back_all: AtomicBool::new(false),
                this: this.clone(),
                app: app.clone(),
            });
            made = Some(Arc::clone(&runtime));
            runtime
        });
        let Some(runtime) = made else {
            return Err(Error::Worker("the consumer made no receiver".to_owned()));
        };
        let limited = runtime.registry.values().filter(|_| !config.worker_disable_rate_limits);
        for definition in limited {
            let limit = match definition.options.rate_limit.as_deref().map(RateLimit::parse) {
                Some(Ok(limit)) => limit,
                Some(Err(reason)) => {
                    return Err(Error::Worker(format!("task {}: {reason}", definition.name)));
                }
                None => runtime.config().task_default_rate_limit,
            };
            if let Some(limit) = limit {
                runtime.rate_limits.set(&definition.name, limit.rate());
            }
        }
        let service = ServiceOptions {
            remote_control: config.worker_enable_remote_control,
            heartbeat: (!parts.without_heartbeat).then_some(parts.heartbeat_interval),
            gossip: !parts.without_gossip,
            probes: config.celeriac_probe_address.as_deref().map(listen).transpose()?,
        };
        let service = Service::start(runtime.clone(), events, commands, app.broker(), service).await;
        let service =
            service.map_err(|error| Error::Worker(format!("remote control has no thread: {error}")))?;
        let mingles = !parts.without_mingle && config.worker_enable_remote_control;
        let learning = learn::learn(Arc::clone(&runtime), mingles, Persistence::new(config));
        declared.iter().for_each(|queue| runtime.consume(queue));
        if runtime.autoscale.bounds().is_some() {
            runtime.background.spawn(Autoscale::run(Arc::clone(&runtime)));
        }
        runtime.background.spawn(Schedule::run(Arc::clone(&runtime)));
        runtime.background.spawn(chords::recover(Arc::clone(&runtime)));
        runtime.background.spawn(chords::renew(Arc::clone(&runtime)));
        runtime.background.spawn(app.broker().clone().warn_of_loss());
        if let Some(backend) = app.result_backend().filter(|_| !app.commits_together()).cloned() {
            runtime.background.spawn(backend.clone().warn_of_loss());
            let (hostname, refusals) = (hostname.clone(), Arc::clone(&runtime.health.refusals));
            let stopping = stopping.clone();
            tokio::spawn(async move {
                stopping.run_until_cancelled(backend.watch_rights(&hostname, refusals)).await
            });
        }
        if mingles {
            let comparing = compare(runtime.clone(), app.control(), app.broker().clone());
            let leaving = stopping.clone();
            // Nobody waits for it.
            tokio::spawn(async move { leaving.run_until_cancelled(comparing).await });
        }
        let finish = CancellationToken::new();
        if handles_signals && let Err(error) = signals::answer(Arc::downgrade(&runtime), finish.clone()) {
            log::warn!(error:% = error; "SIGUSR1 and SIGUSR2 are not answered: {error}");
        }
        #[cfg(feature = "cli")]
        let purges = match &program {
            Some(program) => {
                if !program.quiet {
                    banner::print(&runtime, &declared, program.loglevel);
                }
                program.purge
            }
            None => false,
        };
        let keeping = statedb.map(|file| tokio::spawn(file.keep(Arc::clone(&runtime.state), finish.clone())));
        let stop_fetching = stopping.clone();
        let (starting, finished) = (Arc::clone(&runtime), finish.clone());
        if !app.clock().is_simulated() {
            tokio::spawn(Arc::clone(&runtime.health).beat(finish.clone()));
        }
        let mut consuming = tokio::spawn(async move {
            learning.await?;
            for queue in declared.iter().filter(|_| !starting.stopping.is_cancelled()) {
                starting.bind(queue).await;
            }
            #[cfg(feature = "cli")]
            if purges {
                starting.purge(&queues).await;
            }
            starting.health.consumes_now();
            drop(starting);
            consumer.run(stop_fetching, finished).await
        });
        let sweeping = tokio::spawn(sweeping);
        let leaving = async {
            let end = wait_for_end(&runtime, stop, signals).await;
            let parts = async {
                shut_down(&runtime, end.stopped.is_cold).await;
                hooks::each(&runtime.hooks.worker_shutdown, |hook| hook());
                service.stop().await;
            };
            if timeout_at(end.parts, parts).await.is_err() {
                log::error!(worker = hostname.as_str(); "Work in the background did not end in time and is given up");
                runtime.hurry.cancel();
            }
            end
        };
        let End { stopped, parts, all } = tokio::select! {
            end = leaving => end,
            // It ends before `finish` only when it gives up, or by a panic. Nothing can be settled without it: better
            // gone than deaf.
            ended = &mut consuming => {
                stopping.cancel();
                abort.cancel();
                let ended = ended.map_err(|error| Error::Worker(format!("the consumer has failed: {error}")))?;
                ended?;
                return Err(Error::Worker("the consumer has ended".to_owned()));
            }
        };
        fail_point!("shutdown.finished");
        finish.cancel();
        for part in std::iter::once(sweeping).chain(keeping) {
            let ending = part.abort_handle();
            match timeout_at(parts.max(Instant::now() + Duration::from_secs(1)), part).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => log::error!(error:% = error; "A part of the worker failed: {error}"),
                // A sweep waits for the server, and another worker goes on with it.
                Err(_) => ending.abort(),
            }
        }
        match timeout_at(all, &mut consuming).await {
            Ok(Ok(consumed)) => consumed?,
            Ok(Err(error)) => log::error!(error:% = error; "The consumer failed: {error}"),
            Err(_) => {
                consuming.abort();
                log::error!(worker = hostname.as_str(); "{hostname} leaves before all is settled: what is not acknowledged comes back after the lease");
            }
        }
        log::info!(worker = hostname.as_str(); "{hostname} stopped");
        if stopped.is_hangup {
            let error = daemon::replace();
            log::error!(error:% = error; "The program cannot be started again: {error}");
        }
        Ok(stopped)
    }
}

/// Whether this process is a child that a worker started to run tasks in; see [`Worker::run`].
///
/// For what `main` had better not do again before it comes to the worker: open a port, migrate a database, print.
pub fn is_child_process() -> bool {
    is_child()
}

/// The address at which probes are answered.
fn listen(address: &str) -> Result<std::net::TcpListener> {
    let listening = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        log::info!(address = address; "Probes are answered at http://{}", listener.local_addr()?);
        Ok(listener)
    });
    listening.map_err(|error| {
        Error::Worker(format!(
            "probes cannot be answered at {address:?}: {error}\nhint: celeriac_probe_address is HOST:PORT, such as 0.0.0.0:8080, and each worker of a machine needs its own"
        ))
    })
}

fn registry(app: &Celery) -> HashMap<Arc<str>, Arc<TaskDefinition>> {
    let shared = Arc::new(OnceLock::new());
    let own = app.tasks().values().cloned();
    let all = builtins::definitions(&shared).into_iter().chain(own);
    let registry: HashMap<_, _> = all.map(|task| (Arc::clone(&task.name), Arc::new(task))).collect();
    // Set here once: the cell was made above.
    let _ = shared.set(registry.clone());
    registry
}

/// `worker_state_db`, in which `%h`, `%n` and `%d` stand for host, name and domain.
fn statedb_path(config: &Config, hostname: &str) -> Option<PathBuf> {
    let path = config.worker_state_db.as_deref().filter(|path| !path.is_empty())?;
    Some(expand_node_format(path, &NodeName::expand(Some(hostname))).into())
}

fn accept(app: &Celery) -> Result<Accept> {
    let config = app.config();
    let bytes = |limit: u64| match limit {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    Ok(app
        .codecs()
        .accept(config)?
        .limited(bytes(config.celeriac_max_body_bytes), bytes(config.celeriac_max_decompressed_bytes)))
}

/// A task whose state is missing would fail each time: better said at the start.
fn check_states(app: &Celery, states: &States) -> Result<()> {
    for task in app.tasks().values() {
        if let Some((_, missing)) = task.states.iter().find(|(state, _)| !states.has(*state)) {
            let name = &task.name;
            return Err(Error::Worker(format!(
                "task {name} asks for State<{missing}>, which the worker does not have\nhint: add it with Worker::state"
            )));
        }
    }
    Ok(())
}
