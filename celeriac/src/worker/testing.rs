//! A worker in a test.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::app::Celery;
use crate::node::WorkerState;

/// Gets the state of a worker when it runs.
pub(crate) type Observer = Arc<OnceLock<Arc<WorkerState>>>;

impl Worker {
    /// Returns the application.
    pub(crate) fn app(&self) -> &Celery {
        &self.app
    }

    /// The same without what reaches out of a test: signals, and all that asks or tells other workers.
    pub(crate) fn for_test(mut self, observer: Observer, stop: CancellationToken) -> Self {
        self.handles_signals = false;
        self.parts.without_gossip = true;
        self.parts.without_mingle = true;
        self.parts.without_heartbeat = true;
        self.parts.without_service = true;
        self.observer = observer;
        self.stop = stop;
        self
    }
}
