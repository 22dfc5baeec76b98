//! What the commands of a worker have at hand.

use std::sync::{Arc, Mutex};

use super::gossip::Gossip;
use super::revocations::Revocations;
use super::worker_port::WorkerPort;
use crate::broker::Broker;
use crate::events::Dispatcher;
use crate::node::WorkerState;

/// The surroundings of a command; cheap to clone.
#[derive(Clone)]
pub(crate) struct Panel {
    inner: Arc<Inner>,
}

struct Inner {
    worker: Arc<dyn WorkerPort>,
    events: Dispatcher,
    broker: Broker,
    revocations: Revocations,
    gossip: Option<Arc<Mutex<Gossip>>>,
    memory_samples: Mutex<Vec<String>>,
}

impl Panel {
    pub(super) fn new(
        worker: Arc<dyn WorkerPort>,
        events: Dispatcher,
        broker: Broker,
        revocations: Revocations,
        gossip: Option<Arc<Mutex<Gossip>>>,
    ) -> Self {
        let memory_samples = Mutex::default();
        Self { inner: Arc::new(Inner { worker, events, broker, revocations, gossip, memory_samples }) }
    }

    pub(super) fn worker(&self) -> &dyn WorkerPort {
        &*self.inner.worker
    }

    pub(super) fn state(&self) -> &WorkerState {
        self.inner.worker.state()
    }

    pub(super) fn events(&self) -> &Dispatcher {
        &self.inner.events
    }

    /// The broker that the worker is connected to.
    pub(super) fn broker(&self) -> &Broker {
        &self.inner.broker
    }

    /// The revocations that outlive the worker.
    pub(super) fn revocations(&self) -> &Revocations {
        &self.inner.revocations
    }

    /// The talk with the other workers, unless it is off.
    pub(super) fn gossip(&self) -> Option<&Mutex<Gossip>> {
        self.inner.gossip.as_deref()
    }

    /// What `memsample` measured since `memdump` was asked last.
    pub(super) fn memory_samples(&self) -> &Mutex<Vec<String>> {
        &self.inner.memory_samples
    }
}
