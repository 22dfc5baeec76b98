//! Brokers: moving messages, nothing about tasks.

mod any;
mod batch;
mod consumer;
mod dead_letter;
mod dead_letters;
mod delivery;
mod error;
mod examine;
mod handle;
#[cfg(feature = "testing")]
pub(crate) mod memory;
mod persistence;
pub mod redis;
pub(crate) mod refusal;
pub(crate) mod refusals;
mod remote;
mod reply;
mod room;
mod settlement;
mod subscription;
mod sweep;
pub(crate) mod troubles;

pub use any::Broker;
pub(crate) use batch::{Answers, Batch};
pub(crate) use consumer::{Consumer, ConsumerOptions};
pub use dead_letter::{DeadLetter, DeadReason, Start};
pub use dead_letters::{DeadLetters, Fate};
pub(crate) use delivery::{Delivery, Hopeless, Owner, Receiver, Taken};
pub use error::BrokerError;
pub(crate) use examine::Survey;
pub(crate) use handle::{Binding, ConsumerHandle};
pub(crate) use persistence::Persistence;
pub(crate) use remote::{
    BrokerDescription, DeadLetterCount, ForeignBindings, KeptRevocations, RevocationBounds,
};
pub(crate) use reply::{ReplyAddress, ReplyQueue, ReplyQueues};
pub(crate) use room::Room;
pub(crate) use settlement::{Disposition, Listener, Settlement};
pub use subscription::Subscription;
pub(crate) use sweep::Swept;
