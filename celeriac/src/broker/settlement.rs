//! The end of a delivery, and what takes effect together with it.

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::refusal::Refusal;
use super::{Answers, Batch, DeadReason, Owner, Start};

/// Gets the answers to the writes of a settlement once they are carried out, or why they were given up; dropped without a
/// word by a consumer that ends before.
pub(crate) type Listener = oneshot::Sender<Result<Answers, Refusal>>;

/// What becomes of a delivery, and what is committed in the same step.
pub(crate) struct Settlement {
    /// The delivery; `None` when it was settled before.
    pub(crate) serial: Option<u64>,
    /// What becomes of it.
    pub(crate) disposition: Disposition,
    /// Writes that take effect together with it.
    pub(crate) batch: Batch,
    /// Who waits for the answers to the writes.
    pub(crate) answers: Option<Listener>,
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

impl Settlement {
    /// That, and nothing else.
    pub(crate) fn of(serial: u64, disposition: Disposition) -> Self {
        Self { serial: Some(serial), ..Self::commit(disposition, Batch::Empty) }
    }

    /// Those writes, and that for a delivery.
    pub(crate) fn commit(disposition: Disposition, batch: Batch) -> Self {
        Self { serial: None, disposition, batch, answers: None, owner: None, replaces: None }
    }
}
