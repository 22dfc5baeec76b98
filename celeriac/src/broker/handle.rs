//! The way from the worker into the loop of its consumer.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::Settlement;
use super::troubles::Troubles;

/// A queue's binding to an exchange that is kept as long as the queue is consumed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) queue: Arc<str>,
    pub(crate) exchange: String,
    pub(crate) exchange_type: String,
    pub(crate) routing_key: String,
}

/// The way to a running consumer.
#[derive(Clone)]
pub(crate) struct ConsumerHandle {
    settlements: mpsc::UnboundedSender<Settlement>,
    wake: Arc<Notify>,
    queues: Arc<Mutex<Arc<[Arc<str>]>>>,
    /// Bindings that the consumer does not know yet.
    bindings: Arc<Mutex<Vec<Binding>>>,
    fetching_ended: CancellationToken,
    troubles: Troubles,
}

impl ConsumerHandle {
    pub(crate) fn new(queues: Vec<Arc<str>>) -> (Self, mpsc::UnboundedReceiver<Settlement>) {
        let (settlements, receiver) = mpsc::unbounded_channel();
        let handle = Self {
            settlements,
            wake: Arc::default(),
            queues: Arc::new(Mutex::new(queues.into())),
            bindings: Arc::default(),
            fetching_ended: CancellationToken::new(),
            troubles: Troubles::default(),
        };
        (handle, receiver)
    }

    /// Settles a delivery or commits writes. Everything sent here is bounded by the prefetch window.
    pub(crate) fn settle(&self, settlement: Settlement) {
        // The receiver lives until every delivery is settled; afterwards nobody is left to hear of it.
        let _ = self.settlements.send(settlement);
    }

    /// Tells the consumer that there is more capacity, or that the queues changed.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Returns after the next call of [`ConsumerHandle::wake`].
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Returns when nothing more will be fetched.
    pub(crate) async fn fetching_ended(&self) {
        self.fetching_ended.cancelled().await;
    }

    /// Says that nothing more will be fetched.
    pub(crate) fn end_fetching(&self) {
        self.fetching_ended.cancel();
    }

    /// What the server refuses at present.
    pub(crate) fn troubles(&self) -> &Troubles {
        &self.troubles
    }

    /// The queues consumed from.
    pub(crate) fn queues(&self) -> Arc<[Arc<str>]> {
        Arc::clone(&self.queues.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the queues consumed from.
    pub(crate) fn set_queues(&self, queues: Vec<Arc<str>>) {
        *self.queues.lock().unwrap_or_else(PoisonError::into_inner) = queues.into();
        self.wake();
    }

    /// Keeps a queue bound as long as it is consumed from.
    pub(crate) fn keep_bound(&self, binding: Binding) {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner).push(binding);
        self.wake();
    }

    /// The bindings that were added since this was called last.
    pub(crate) fn take_bindings(&self) -> Vec<Binding> {
        std::mem::take(&mut *self.bindings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
