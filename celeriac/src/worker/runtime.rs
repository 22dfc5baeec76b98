//! What all parts of a running worker share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use super::assembly::Registry;
use super::autoscale::Autoscale;
use super::health::Health;
use super::hooks::Hooks;
use super::layers::Layers;
use super::lifetime::Lifetime;
use super::metrics::Counters;
use super::processes::Processes;
use super::queues::Consumed;
use super::rate_limits::RateLimits;
use super::schedule::Schedule;
use super::slots::Slots;
use crate::app::Celery;
use crate::broker::{ConsumerHandle, Room, Settlement};
use crate::config::Config;
use crate::control::Revocations;
use crate::events::Dispatcher;
use crate::heavy::aside;
use crate::message::{Accept, EncodedBody, TimeLimit};
use crate::node::{Stage, WorkerState, lock};
use crate::task::States;

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
    pub(crate) registry: Registry,
    pub(crate) time_limits: Mutex<HashMap<Arc<str>, TimeLimit>>,
    pub(crate) life: Lifetime,
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

    /// Notes that a request runs from now on.
    pub(crate) fn begin(&self, serial: u64, acknowledged: bool) {
        let now = self.app.clock().now();
        let mut requests = self.state.requests();
        let was_full = requests.reserved_bytes() >= self.prefetch_bytes();
        requests.update(serial, |known| {
            known.stage = Stage::Active(now);
            known.acknowledged = acknowledged;
        });
        drop(requests);
        if was_full {
            self.consumer.wake();
        }
    }

    /// Forgets a request that is done with.
    pub(crate) fn forget(&self, serial: u64) {
        self.state.requests().remove(serial);
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

    /// Most bytes of the bodies of messages that wait here to be run.
    fn prefetch_bytes(&self) -> usize {
        match self.config().celeriac_prefetch_bytes {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        }
    }

    /// Returns how much more is wanted now.
    pub(crate) fn vacancy(&self) -> Room {
        if self.life.stopping.is_cancelled() { Room::default() } else { self.room() }
    }

    /// Returns how much more may be held.
    pub(crate) fn room(&self) -> Room {
        if self.is_short() {
            return Room::default();
        }
        let window = self.prefetch_limit().map_or(usize::MAX, |limit| self.window(limit));
        let requests = self.state.requests();
        let held = Room::new(requests.len(), requests.reserved_bytes());
        Room::new(window, self.prefetch_bytes()).without(held)
    }
}
