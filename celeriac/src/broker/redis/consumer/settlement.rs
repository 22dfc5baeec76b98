//! What becomes of a delivery, and the way of that decision into the consumer's loop.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use redis::Cmd;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::Binding;
use super::part::{Listener, Owner};
use crate::broker::redis::troubles::Troubles;
use crate::broker::redis::{DeadReason, Start};

/// What becomes of a delivery, and what is committed in the same transaction.
pub(crate) struct Settlement {
    /// The delivery; `None` when it was settled before.
    pub(crate) serial: Option<u64>,
    /// What becomes of it.
    pub(crate) disposition: Disposition,
    /// Commands that take effect together with it.
    pub(crate) commands: Vec<Cmd>,
    /// Gets the replies to the commands once they are carried out, none when they are not known, or why they were given
    /// up; dropped without a word by a consumer that ends before.
    pub(crate) replies: Option<Listener>,
    /// Who is told when the server refuses it for good; without one the listener is.
    pub(crate) owner: Option<Owner>,
    /// The number of the refused settlement for which it stands in.
    pub(crate) replaces: Option<u64>,
}

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// The message is done with.
    Ack,
    /// Back to its queue, behind everything that waits (`reject` with `requeue`).
    Requeue,
    /// Back to its queue, to be delivered next (shutdown).
    Restore,
    /// It stays with this worker for long.
    Hold,
    /// It is put aside until that time.
    Park(DateTime<Utc>),
    /// To the dead letters, for that reason, after the first start and those.
    Dead(DeadReason, Vec<Start>),
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

impl Settlement {
    /// That, and nothing else.
    pub(crate) fn of(serial: u64, disposition: Disposition) -> Self {
        Self { serial: Some(serial), ..Self::commit(disposition, Vec::new()) }
    }

    /// Those commands, and that for a delivery.
    pub(crate) fn commit(disposition: Disposition, commands: Vec<Cmd>) -> Self {
        Self { serial: None, disposition, commands, replies: None, owner: None, replaces: None }
    }
}

impl ConsumerHandle {
    pub(super) fn new(queues: Vec<Arc<str>>) -> (Self, mpsc::UnboundedReceiver<Settlement>) {
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

    /// Settles a delivery or commits commands. Everything sent here is bounded by the prefetch window.
    pub(crate) fn settle(&self, settlement: Settlement) {
        // The receiver lives until every delivery is settled; afterwards nobody is left to hear of it.
        let _ = self.settlements.send(settlement);
    }

    /// Tells the consumer that there is more capacity, or that the queues changed.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Returns after the next call of [`ConsumerHandle::wake`].
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Returns when nothing more will be fetched.
    pub(crate) async fn fetching_ended(&self) {
        self.fetching_ended.cancelled().await;
    }

    /// Says that nothing more will be fetched.
    pub(super) fn end_fetching(&self) {
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
    pub(super) fn take_bindings(&self) -> Vec<Binding> {
        std::mem::take(&mut *self.bindings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
