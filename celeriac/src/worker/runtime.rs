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
use crate::broker::{ConsumerHandle, Settlement};
use crate::config::Config;
use crate::control::Revocations;
use crate::events::Dispatcher;
use crate::heavy::aside;
use crate::message::{Accept, EncodedBody, TimeLimit};
use crate::node::{WorkerState, lock};
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
        if self.life.stopping.is_cancelled() { 0 } else { self.room() }
    }

    /// How many more messages may be held.
    pub(crate) fn room(&self) -> usize {
        if self.is_short() {
            return 0;
        }
        let Some(limit) = self.prefetch_limit() else { return usize::MAX };
        self.window(limit).saturating_sub(self.state.requests().len())
    }
}
