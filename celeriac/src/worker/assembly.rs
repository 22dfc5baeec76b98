//! Putting a worker together: what its settings come to, and the runtime that its parts share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::Semaphore;

use super::autoscale::Autoscale;
use super::builder::Worker;
use super::builtins;
use super::error::WorkerError;
use super::health::Health;
use super::lifetime::Lifetime;
use super::processes::Processes;
use super::queues;
use super::rate_limits::RateLimits;
use super::runtime::Runtime;
use super::schedule::Schedule;
use super::slots::Slots;
use super::statedb::StateDb;
use crate::app::{Celery, Result};
use crate::broker::refusals::Refusals;
use crate::broker::{Consumer, ConsumerOptions};
use crate::config::{Concurrency, Config, NodeName, Pool, RateLimit, expand_node_format};
use crate::control::{QueueInfo, Revocations};
use crate::events::{Dispatcher, DispatcherOptions};
use crate::message::Accept;
use crate::node::WorkerState;
use crate::task::{States, TaskDefinition};

/// The tasks of a worker, by name.
pub(crate) type Registry = HashMap<Arc<str>, Arc<TaskDefinition>>;

/// What the settings of a worker come to.
pub(super) struct Plan {
    /// Node name.
    pub(super) hostname: String,
    /// How many tasks run at a time.
    pub(super) concurrency: usize,
    /// The names of the queues to consume from.
    pub(super) queues: Vec<String>,
    /// The same queues as they are declared.
    pub(super) declared: Vec<QueueInfo>,
    pub(super) registry: Registry,
}

/// A worker whose parts are made and do nothing yet.
pub(super) struct Assembled {
    pub(super) runtime: Arc<Runtime>,
    pub(super) consumer: Consumer<Runtime>,
    /// The file of `worker_state_db`.
    pub(super) statedb: Option<StateDb>,
}

impl Plan {
    /// Works out what the settings of a worker come to.
    ///
    /// # Errors
    /// [`WorkerError::MissingState`] and [`WorkerError::UndefinedQueue`].
    pub(super) fn of(worker: &Worker) -> Result<Self> {
        check_states(&worker.app, &worker.states)?;
        let config = worker.app.config();
        let hostname = NodeName::expand(worker.hostname.as_deref()).to_string();
        let concurrency = match worker.autoscale {
            Some(bounds) => bounds.min,
            None if config.worker_pool == Pool::Solo => 1,
            None => config.worker_concurrency.unwrap_or(Concurrency::Auto).slots(),
        };
        let queues = worker.queues.clone().unwrap_or_else(|| queues::default_names(config));
        let declared = queues::declare(config, &queues, &hostname)?;
        Ok(Self { hostname, concurrency, queues, declared, registry: registry(&worker.app) })
    }
}

/// Makes the parts of a worker.
///
/// # Errors
/// [`WorkerError::Metrics`], [`WorkerError::StateDb`] and [`WorkerError::BadRateLimit`].
pub(super) fn assemble(worker: Worker, plan: Plan) -> Result<Assembled> {
    #[cfg(feature = "testing")]
    let observer = worker.observer.clone();
    let Worker { app, states, hooks, layers, metrics, autoscale, .. } = worker;
    let Plan { hostname, concurrency, declared, registry, .. } = plan;
    let config = app.config();
    let state = Arc::new(WorkerState::new(hostname.clone()));
    #[cfg(feature = "testing")]
    observer.get_or_init(|| Arc::clone(&state));
    let counters = metrics.start(&hostname);
    let counters = counters.map_err(|error| WorkerError::Metrics { reason: error.to_string() })?;
    let statedb = statedb_path(config, &hostname).map(|path| StateDb::open(path, &state));
    let statedb = statedb.transpose();
    let statedb = statedb.map_err(|error| WorkerError::StateDb { reason: error.to_string() })?;
    let refusals = Arc::<Refusals>::default();
    let lists = declared.iter().filter(|queue| !queues::is_broadcast(queue));
    let options = ConsumerOptions {
        worker: uuid::Uuid::new_v4().simple().to_string(),
        queues: lists.map(|queue| Arc::from(queue.name.as_str())).collect(),
        hostname,
        refusals: Arc::clone(&refusals),
    };
    let accept = accept(&app)?;
    let events = dispatcher(&app, &state)?;
    let rate_limits = rate_limits(config, &registry)?;
    let (slots, processes) = (Arc::new(Slots::new(concurrency)), Processes::new(config, concurrency));
    let revocations = Revocations::new(app.broker().clone());
    let (runtime, consumer) = app.broker().consumer(options, config, app.result_backend(), |consumer| {
        Arc::new(Runtime {
            accept,
            state,
            states,
            consumer,
            slots,
            hooks,
            layers,
            counters,
            processes,
            rate_limits,
            decoding: Semaphore::new(Concurrency::Auto.slots()),
            schedule: Schedule::default(),
            events,
            health: Arc::new(Health::new(refusals)),
            revocations,
            autoscale: Autoscale::new(autoscale),
            consumed: Mutex::default(),
            rate_texts: Mutex::default(),
            handle: tokio::runtime::Handle::current(),
            registry,
            time_limits: Mutex::default(),
            life: Lifetime::default(),
            app: app.clone(),
        })
    });
    Ok(Assembled { runtime, consumer, statedb })
}

fn dispatcher(app: &Celery, state: &WorkerState) -> Result<Dispatcher> {
    let config = app.config();
    let options = DispatcherOptions {
        hostname: state.hostname.clone(),
        clock: state.clock.clone(),
        exchange: config.event_exchange.clone(),
        codec: app.codecs().codec(config.event_serializer.as_str())?,
        timezone: config.timezone_or_utc(),
    };
    Ok(Dispatcher::new(options, config.worker_send_task_events))
}

/// The rate limits that tasks and settings ask for.
fn rate_limits(config: &Config, registry: &Registry) -> Result<RateLimits> {
    let limits = RateLimits::default();
    for definition in registry.values().filter(|_| !config.worker_disable_rate_limits) {
        let limit = match definition.options.rate_limit.as_deref().map(RateLimit::parse) {
            Some(Ok(limit)) => limit,
            Some(Err(reason)) => {
                let (task, reason) = (definition.name.to_string(), reason.to_string());
                return Err(WorkerError::BadRateLimit { task, reason }.into());
            }
            None => config.task_default_rate_limit,
        };
        if let Some(limit) = limit {
            limits.set(&definition.name, limit.rate());
        }
    }
    Ok(limits)
}

fn registry(app: &Celery) -> Registry {
    let shared = Arc::new(OnceLock::new());
    let own = app.tasks().values().cloned();
    let all = builtins::definitions(&shared).into_iter().chain(own);
    let registry: Registry = all.map(|task| (Arc::clone(&task.name), Arc::new(task))).collect();
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
            return Err(WorkerError::MissingState { task: task.name.to_string(), state: missing }.into());
        }
    }
    Ok(())
}
