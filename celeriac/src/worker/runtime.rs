//! What all parts of a running worker share, and the way of a message into it.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::Timezone;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::autoscale::Autoscale;
use super::ending::Unstarted;
use super::health::Health;
use super::hooks::{self, Hooks, Revocation};
use super::layers::Layers;
use super::metrics::{Counters, Refusal};
use super::processes::Processes;
use super::queues::{Consumed, is_kept};
use super::rate_limits::RateLimits;
use super::request::Job;
use super::schedule::Schedule;
use super::slots::Slots;
use crate::app::Celery;
use crate::backend::{ExceptionInfo, TaskMeta, TaskState};
use crate::broker::{
    ConsumerHandle, DeadReason, Delivery, Disposition, Hopeless, Receiver, Settlement, Taken,
};
use crate::canvas::Ending;
use crate::config::Config;
use crate::control::Revocations;
use crate::events::Dispatcher;
use crate::failpoints::fail_point;
use crate::heavy::aside;
use crate::message::{Accept, EncodedBody, Parts, ProtocolError, TimeLimit, Value};
use crate::node::{Known, Stage, WorkerState, lock};
use crate::task::{Request, States, TaskDefinition};

/// A running worker.
pub(crate) struct Runtime {
    pub(crate) app: Celery,
    pub(crate) accept: Accept,
    pub(crate) state: Arc<WorkerState>,
    pub(crate) states: States,
    pub(crate) consumer: ConsumerHandle,
    pub(crate) slots: Arc<Slots>,
    pub(crate) hooks: Hooks,
    pub(crate) layers: Layers,
    pub(crate) counters: Arc<Counters>,
    pub(crate) processes: Processes,
    pub(crate) rate_limits: RateLimits,
    /// A place for each processor to decode large bodies in, so that many of them do not fill the memory.
    pub(crate) decoding: Semaphore,
    pub(crate) schedule: Schedule,
    pub(crate) events: Dispatcher,
    pub(crate) health: Arc<Health>,
    pub(crate) revocations: Revocations,
    pub(crate) autoscale: Autoscale,
    pub(crate) consumed: Mutex<Consumed>,
    /// The rate limits that remote control has set, as text.
    pub(crate) rate_texts: Mutex<HashMap<Arc<str>, String>>,
    /// The runtime in which the worker lives; remote control has one of its own.
    pub(crate) handle: tokio::runtime::Handle,
    pub(crate) registry: HashMap<Arc<str>, Arc<TaskDefinition>>,
    pub(crate) time_limits: Mutex<HashMap<Arc<str>, TimeLimit>>,
    /// What goes on besides the tasks: etas, chords, commits.
    pub(crate) background: TaskTracker,
    /// Cancelled when nothing new is to be started.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when what runs is to be ended.
    pub(crate) abort: CancellationToken,
    /// Cancelled when the worker ends and no longer waits for a server.
    pub(crate) hurry: CancellationToken,
    /// Whether tasks that are ended go back to their queue even if their message was acknowledged.
    pub(crate) gives_back_all: AtomicBool,
    /// Itself, for the jobs that it makes.
    pub(crate) this: std::sync::Weak<Runtime>,
}

impl Runtime {
    pub(crate) fn config(&self) -> &Config {
        self.app.config()
    }

    pub(crate) fn settle(&self, settlement: Settlement) {
        self.consumer.settle(settlement);
    }

    /// Decodes a body with the others of its size waiting, if it may be large.
    pub(crate) async fn decode<T>(&self, body: &EncodedBody, decode: impl FnOnce() -> T) -> T {
        if !body.is_large() {
            return decode();
        }
        // Nobody closes it.
        let _place = self.decoding.acquire().await;
        aside(decode)
    }

    /// Forgets a request that is done with.
    pub(crate) fn forget(&self, serial: u64) {
        self.state.requests().remove(&serial);
        self.consumer.wake();
    }

    /// The limits that remote control has set for a task, instead of its own.
    pub(crate) fn time_limits(&self, task: &str) -> Option<TimeLimit> {
        lock(&self.time_limits).get(task).copied()
    }

    /// How many messages the worker may hold; `None` is without limit.
    pub(crate) fn prefetch_limit(&self) -> Option<usize> {
        let config = self.config();
        // What runs counts as held: with one a slot nothing is fetched that could not start.
        let multiplier =
            if config.worker_disable_prefetch { 1 } else { config.worker_prefetch_multiplier as usize };
        (multiplier > 0).then(|| self.slots.limit().saturating_mul(multiplier))
    }

    /// How many more messages are wanted now.
    pub(crate) fn vacancy(&self) -> usize {
        if self.stopping.is_cancelled() { 0 } else { self.room() }
    }

    /// Says that the worker is ready: it has reached the broker and begins to fetch.
    fn announce(&self) {
        let (hostname, concurrency) = (self.state.hostname.as_str(), self.slots.limit());
        let queues: Vec<String> = self.consumed().into_iter().map(|queue| queue.name).collect();
        log::info!(worker = hostname, concurrency, queues:? = queues; "{hostname} ready: {} task(s), concurrency {concurrency}, queues {}", self.registry.len(), queues.join(", "));
        hooks::each(&self.hooks.worker_ready, |hook| hook());
    }

    /// How many more messages may be held.
    pub(crate) fn room(&self) -> usize {
        if self.is_short() {
            return 0;
        }
        let Some(limit) = self.prefetch_limit() else { return usize::MAX };
        self.window(limit).saturating_sub(self.state.requests().len())
    }

    /// Drops a job that expired or was revoked before it started; `true` when it did.
    pub(crate) fn drop_if_unwanted(self: &Arc<Self>, job: &Job) -> bool {
        let headers = &job.headers;
        let expired = headers
            .expires(Timezone::UTC)
            .ok()
            .flatten()
            .is_some_and(|expires| self.app.clock().now() > expires);
        let revoked = {
            let revoked = lock(&self.state.revoked);
            !revoked.is_empty() && revoked.matches(headers)
        };
        if !expired && !revoked {
            return false;
        }
        let reason = if expired { "expired" } else { "revoked" };
        let (runtime, serial, acknowledged) = (Arc::clone(self), job.serial, job.acknowledged);
        let (id, name) =
            (headers.id.clone().unwrap_or_default(), headers.task.as_deref().unwrap_or_default());
        log::info!(task_id = id.as_str(), task_name = name; "Discarding {reason} task: {name}[{id}]");
        self.events.task_events(job.definition.options.send_events).revoked(&id, false, None, expired);
        let (definition, parts) = (Arc::clone(&job.definition), job.parts());
        let unstarted = Unstarted { parts, serial, acknowledged, disposition: Disposition::Ack };
        self.background.spawn(async move {
            fail_point!("revoke.decided");
            runtime.end_unwanted(unstarted, &definition, reason).await;
            fail_point!("revoke.completed");
            runtime.forget(serial);
            if revoked && let Err(error) = runtime.revocations.message_gone(&id).await {
                log::debug!(task_id = id.as_str(), error:% = error; "The revocation of {id} is kept for long: {error}");
            }
        });
        job.counters.revoked.inc();
        let revocation = Revocation { terminated: false, signum: None, expired };
        hooks::each(&self.hooks.task_revoked, |hook| hook(headers, revocation));
        true
    }

    /// Rejects a message of which nothing can be made; all that wait for its task are told, as far as they are known.
    pub(crate) async fn refuse(
        self: &Arc<Self>,
        serial: u64,
        acknowledged: bool,
        parts: Parts,
        error: &ProtocolError,
    ) {
        let headers = Arc::clone(&parts.headers);
        let id = headers.id.as_deref().or(error.task_id()).map(str::to_owned);
        let name = headers.task.as_deref().or(error.task_name()).unwrap_or("unknown");
        log::error!(task_id = id.as_deref().unwrap_or(""), task_name = name, error:% = error; "Message rejected: {error}");
        self.counters.refuse(Refusal::of(error, &headers));
        hooks::each(&self.hooks.task_rejected, |hook| hook(&headers, error));
        let disposition = Disposition::Dead(DeadReason::Malformed, Vec::new());
        let unstarted = Unstarted { parts, serial, acknowledged, disposition };
        let ending = Ending::refused(error);
        let meta = |_: &Request| id.map(|id| self.failure(&id, &ending.exception));
        self.end_unstarted(unstarted, &ending, meta).await;
        self.forget(serial);
    }

    /// Keeps a message among the dead letters that was acknowledged before anybody saw that it cannot be read.
    pub(crate) fn bury(&self, job: &Job) {
        let to = &job.properties.delivery_info;
        let queue = if to.exchange.is_empty() { &to.routing_key } else { &*job.queue };
        let (reason, message) = (DeadReason::Malformed, job.whole_message());
        self.commit_alone(self.app.broker().letter(reason, &message, queue, &self.state.hostname));
    }

    /// Of a message that is no request: `result_extended` has nothing to add (sample `results_extended/unregistered`).
    fn failure(&self, id: &str, exception: &ExceptionInfo) -> TaskMeta {
        let mut meta = TaskMeta::new(id, TaskState::Failure, exception.to_value());
        if self.config().result_extended {
            let unknown = ["name", "args", "kwargs", "worker", "retries", "queue"];
            meta.extended = unknown.map(|name| (name.to_owned(), Value::Null)).into();
        }
        meta
    }

    fn unknown_task(&self, serial: u64, parts: Parts) {
        let headers = &parts.headers;
        let name = headers.task.as_deref().unwrap_or_default();
        let id = headers.id.as_deref().unwrap_or_default();
        log::error!(task_id = id, task_name = name; "Received unregistered task of type {name:?}: the message is rejected\nhint: add the task with Worker::task, or send it to a queue of a worker that has it");
        self.counters.refuse(Refusal::Unregistered);
        hooks::each(&self.hooks.task_unknown, |hook| hook(headers));
        let ending = Ending::unregistered(name);
        self.events.task_events(true).failed(id, &ending.exception, None);
        let Some(runtime) = self.this.upgrade() else { return };
        let disposition = Disposition::Dead(DeadReason::Unregistered, Vec::new());
        let unstarted = Unstarted { parts, serial, acknowledged: false, disposition };
        self.background.spawn(async move {
            let meta = |request: &Request| {
                (!request.id.is_empty()).then(|| runtime.failure(&request.id, &ending.exception))
            };
            runtime.end_unstarted(unstarted, &ending, meta).await;
        });
    }

    /// Takes a job that may be started: now, at its eta, or when its rate limit allows.
    fn accept_job(self: &Arc<Self>, job: Box<Job>, was_parked: bool) {
        match job.headers.eta(Timezone::UTC) {
            Ok(Some(eta)) if eta > self.app.clock().now() && !was_parked => self.schedule(job, eta),
            _ => self.reserve(job),
        }
    }

    /// Lets the consumer know that a message stays for long.
    pub(crate) fn hold(&self, serial: u64) {
        self.settle(Settlement::of(serial, Disposition::Hold));
    }

    /// Takes a job that is due.
    pub(crate) fn reserve(self: &Arc<Self>, job: Box<Job>) {
        if self.stopping.is_cancelled() {
            self.slots.submit(job);
        } else if let Some(job) = self.rate_limits.admit(self, job) {
            self.slots.submit(job);
        }
    }
}

impl Receiver for Runtime {
    fn refused(&self, hopeless: Hopeless) {
        self.settle_otherwise(hopeless);
    }

    fn capacity(&self) -> usize {
        // The consumer asks at each turn of its loop.
        if self.health.consumer_turned() {
            self.announce();
        }
        self.vacancy()
    }

    fn receive(&self, delivery: Delivery) -> Taken {
        let Delivery { serial, queue, message, was_parked } = delivery;
        self.health.received_one();
        let Some(runtime) = self.this.upgrade() else { return Taken::Held };
        let parts = match message {
            Ok(parts) => parts,
            Err(refused) => {
                let (error, parts) = *refused;
                self.background.spawn(async move { runtime.refuse(serial, false, parts, &error).await });
                return Taken::Held;
            }
        };
        let parts = match self.upgraded(parts) {
            Ok(parts) => parts,
            Err(refused) => {
                let (parts, error) = *refused;
                self.background.spawn(async move { runtime.refuse(serial, false, parts, &error).await });
                return Taken::Held;
            }
        };
        let name = parts.headers.task.as_deref();
        let Some(definition) = name.and_then(|name| self.registry.get(name)).cloned() else {
            self.unknown_task(serial, parts);
            return Taken::Held;
        };
        let Parts { headers, properties, body } = parts;
        let terminate = CancellationToken::new();
        let known = Known {
            headers: Arc::clone(&headers),
            properties: Arc::clone(&properties),
            body: Arc::clone(&body),
            stage: Stage::Reserved,
            acknowledged: false,
            terminate: terminate.clone(),
            signum: None,
        };
        let mut job = Box::new(Job {
            runtime,
            counters: self.counters.task(&definition.name, &queue),
            queue,
            definition,
            headers,
            properties,
            body,
            serial,
            acknowledged: false,
            terminate,
            place: None,
        });
        if let Err(error) = job.headers.eta(Timezone::UTC).and(job.headers.expires(Timezone::UTC)) {
            let (parts, runtime) = (job.parts(), job.runtime);
            self.background.spawn(async move { runtime.refuse(serial, false, parts, &error).await });
            return Taken::Held;
        }
        if job.runtime.drop_if_unwanted(&job) {
            return Taken::Held;
        }
        if !was_parked {
            self.events.task_events(job.definition.options.send_events).received(&job.headers);
            job.counters.received.inc();
            hooks::each(&self.hooks.task_received, |hook| hook(&job.headers));
        }
        log::debug!(task_id = job.headers.id.as_deref().unwrap_or(""), task_name = &*job.definition.name; "Task {}[{}] received", job.definition.name, job.headers.id.as_deref().unwrap_or(""));
        if let Ok(Some(eta)) = job.headers.eta(Timezone::UTC)
            && !was_parked
            && is_kept(serial)
            && self.parks(eta)
        {
            fail_point!("park.decided");
            self.settle(Settlement::of(serial, Disposition::Park(eta)));
            return Taken::Held;
        }
        self.state.requests().insert(serial, known);
        let may_start =
            (job.headers.eta.is_none() || was_parked) && !self.rate_limits.limits(&job.definition.name);
        if may_start && !job.acks_late() {
            job.acknowledged = true;
            match self.slots.start_now(job) {
                Ok(()) => return Taken::Acknowledged,
                Err(refused) => {
                    job = refused;
                    job.acknowledged = false;
                }
            }
        }
        job.runtime.clone().accept_job(job, was_parked);
        Taken::Held
    }
}

impl Runtime {
    /// A message of protocol 1 as one of protocol 2.
    fn upgraded(&self, parts: Parts) -> Result<Parts, Box<(Parts, ProtocolError)>> {
        if parts.headers.task.is_some() {
            return match parts.headers.id {
                Some(_) => Ok(parts),
                None => {
                    let error = ProtocolError::bad_body("the message has a task name and no id");
                    Err(Box::new((parts, error)))
                }
            };
        }
        let upgrade = || {
            let (mut message, body) = parts.message().into_task(&self.accept)?;
            message.set_body(&body, crate::message::Serializer::Json, None)?;
            Ok(message.into())
        };
        let upgraded = if parts.body.is_large() { aside(upgrade) } else { upgrade() };
        upgraded.map_err(|error| Box::new((parts, error)))
    }
}
