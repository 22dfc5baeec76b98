//! The way of a message into the worker: read, found, checked, parked or started.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::hooks;
use super::job::Job;
use super::queues::is_kept;
use super::runtime::Runtime;
use crate::Timezone;
use crate::broker::{Delivery, Disposition, Hopeless, Receiver, Room, Settlement, Taken};
use crate::failpoints::fail_point;
use crate::heavy::aside;
use crate::message::{Parts, ProtocolError, Serializer};
use crate::node::{Known, Stage};
use crate::task::TaskDefinition;

/// A message that is refused, and why.
type Refused = Box<(ProtocolError, Parts)>;

impl Receiver for Runtime {
    fn capacity(&self) -> Room {
        // The consumer asks at each turn of its loop.
        if self.health.consumer_turned() {
            self.announce();
        }
        self.vacancy()
    }

    fn receive(self: &Arc<Self>, delivery: Delivery) -> Taken {
        let Delivery { serial, queue, message, was_parked, taken } = delivery;
        self.health.received_one();
        let parts = match message.and_then(|parts| self.upgraded(parts)) {
            Ok(parts) => parts,
            Err(refused) => return self.refuse_soon(serial, *refused),
        };
        let name = parts.headers.task.as_deref();
        let Some(definition) = name.and_then(|name| self.registry.get(name)).cloned() else {
            self.unknown_task(serial, parts);
            return Taken::Held;
        };
        let job = self.job((serial, taken), queue, parts, definition);
        if let Err(error) = job.headers.eta(Timezone::UTC).and(job.headers.expires(Timezone::UTC)) {
            return self.refuse_soon(serial, (error, job.parts()));
        }
        if self.drop_if_unwanted(&job) {
            return Taken::Held;
        }
        if !was_parked {
            self.tell_received(&job);
        }
        log::debug!(task_id = job.headers.id.as_deref().unwrap_or(""), task_name = &*job.definition.name; "Task {}[{}] received", job.definition.name, job.headers.id.as_deref().unwrap_or(""));
        if !was_parked && self.park(&job) {
            return Taken::Held;
        }
        self.start(job, was_parked)
    }

    fn refused(self: &Arc<Self>, hopeless: Hopeless) {
        self.settle_otherwise(hopeless);
    }

    fn separated(self: &Arc<Self>, settlement: Settlement) {
        self.settle_apart(settlement);
    }
}

impl Runtime {
    /// Says that the worker is ready: it has reached the broker and begins to fetch.
    fn announce(&self) {
        let (hostname, concurrency) = (self.state.hostname.as_str(), self.slots.limit());
        let queues: Vec<String> = self.consumed().into_iter().map(|queue| queue.name).collect();
        log::info!(worker = hostname, concurrency, queues:? = queues; "{hostname} ready: {} task(s), concurrency {concurrency}, queues {}", self.registry.len(), queues.join(", "));
        hooks::each(&self.hooks.worker_ready, |hook| hook());
    }

    fn refuse_soon(self: &Arc<Self>, serial: u64, (error, parts): (ProtocolError, Parts)) -> Taken {
        let runtime = Arc::clone(self);
        self.life.background.spawn(async move { runtime.refuse(serial, false, parts, &error).await });
        Taken::Held
    }

    /// A message of protocol 1 as one of protocol 2.
    fn upgraded(&self, parts: Parts) -> Result<Parts, Refused> {
        if parts.headers.task.is_some() {
            return match parts.headers.id {
                Some(_) => Ok(parts),
                None => {
                    let error = ProtocolError::bad_body("the message has a task name and no id");
                    Err(Box::new((error, parts)))
                }
            };
        }
        let upgrade = || {
            let (mut message, body) = parts.message().into_task(&self.accept)?;
            message.set_body(&body, Serializer::Json, None)?;
            Ok(message.into())
        };
        let upgraded = if parts.body.is_large() { aside(upgrade) } else { upgrade() };
        upgraded.map_err(|error| Box::new((error, parts)))
    }

    /// A job for a message of a known task.
    fn job(
        self: &Arc<Self>,
        (serial, taken): (u64, Instant),
        queue: Arc<str>,
        parts: Parts,
        definition: Arc<TaskDefinition>,
    ) -> Box<Job> {
        let Parts { headers, properties, body } = parts;
        Box::new(Job {
            runtime: Arc::clone(self),
            counters: self.counters.task(&definition.name, &queue),
            queue,
            definition,
            headers,
            properties,
            body,
            serial,
            taken,
            acknowledged: false,
            terminate: CancellationToken::new(),
            place: None,
        })
    }

    fn tell_received(&self, job: &Job) {
        self.events.task_events(job.definition.options.send_events).received(&job.headers);
        job.counters.received.inc();
        hooks::each(&self.hooks.task_received, |hook| hook(&job.headers));
    }

    /// Puts a message aside until its eta, if enough others wait here; whether it did.
    fn park(&self, job: &Job) -> bool {
        let Ok(Some(eta)) = job.headers.eta(Timezone::UTC) else { return false };
        let parks = is_kept(job.serial) && self.parks(eta);
        if parks {
            fail_point!("park.decided");
            self.settle(Settlement::of(job.serial, Disposition::Park(eta)));
        }
        parks
    }

    /// Starts a job now, or lets it wait.
    fn start(self: &Arc<Self>, mut job: Box<Job>, was_parked: bool) -> Taken {
        let known = Known {
            headers: Arc::clone(&job.headers),
            properties: Arc::clone(&job.properties),
            body: Arc::clone(&job.body),
            stage: Stage::Reserved,
            acknowledged: false,
            terminate: job.terminate.clone(),
            signum: None,
        };
        self.state.requests().insert(job.serial, known);
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
        self.accept_job(job, was_parked);
        Taken::Held
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
        if self.life.stopping.is_cancelled() {
            self.slots.submit(job);
        } else if let Some(job) = self.rate_limits.admit(self, job) {
            self.slots.submit(job);
        }
    }
}
