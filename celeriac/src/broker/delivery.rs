//! Deliveries: how a consumer hands messages to the worker, and how the worker hears of what cannot be settled.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use super::refusal::Refusal;
use super::{Room, Settlement};
use crate::message::{Parts, ProtocolError};

/// One hand-over of a message to this worker.
pub(crate) struct Delivery {
    /// Number of the delivery within this consumer, by which it is settled.
    pub(crate) serial: u64,
    /// The queue that it came from.
    pub(crate) queue: Arc<str>,
    /// The message, or why it cannot be read and what can be read of it.
    pub(crate) message: Result<Parts, Box<(ProtocolError, Parts)>>,
    /// Whether it was put aside before and is due now.
    pub(crate) was_parked: bool,
    /// The time at which it was taken.
    pub(crate) taken: Instant,
}

/// What the receiver of a delivery did with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is acknowledged already.
    Acknowledged,
    /// It will be settled later.
    Held,
}

/// Receives deliveries; called from the consumer's loop, so it must return quickly.
pub(crate) trait Receiver: Send + Sync + 'static {
    /// Returns how much more is wanted now.
    fn capacity(&self) -> Room;
    /// Takes one message.
    fn receive(self: &Arc<Self>, delivery: Delivery) -> Taken;
    /// Settles in another way what the server refuses for good.
    fn refused(self: &Arc<Self>, hopeless: Hopeless);
    /// Commits in steps what cannot be committed together any more: first at the result backend and the broker, then
    /// settles the delivery.
    fn separated(self: &Arc<Self>, settlement: Settlement);
}

/// Who is told when a settlement is refused for good; the broker passes it on as it is.
#[derive(Clone)]
pub(crate) enum Owner {
    /// The message of a run, which is all that is kept of one that nothing follows.
    Message(Parts),
    /// Something that only the receiver can read.
    Opaque(Arc<dyn Any + Send + Sync>),
}

/// A settlement that the server refuses for good, for its owner to settle in another way.
pub(crate) struct Hopeless {
    /// By which [`Settlement::replaces`](super::Settlement::replaces) names it.
    pub(crate) number: u64,
    /// The delivery, if it is not settled.
    pub(crate) serial: Option<u64>,
    pub(crate) owner: Owner,
    pub(crate) refusal: Refusal,
    /// The limit of the server that it goes beyond, in bytes.
    pub(crate) limit: Option<u64>,
    /// How many settlements that stood in for it were refused too.
    pub(crate) level: u8,
}
