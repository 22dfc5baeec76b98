//! The Redis transport, in kombu's key layout.
//!
//! Source: kombu 5.7 `kombu/transport/redis.py` and `kombu/transport/virtual/base.py`; transcripts in
//! `compat-tests/vectors/monitor`.

mod bindings;
mod clock;
mod consumer;
mod dead_letters;
mod exchange;
mod fanout;
mod inflight;
mod keys;
mod link;
mod queue;
mod restore;
mod transaction;
mod url;

pub(crate) use consumer::{
    Consumer, ConsumerHandle, ConsumerOptions, Delivery, Disposition, Receiver, Settlement, Taken,
};
pub use dead_letters::{DeadLetter, DeadLetters, DeadReason};
pub use fanout::Subscription;
pub use keys::{Keys, KeysOptions};
pub use link::Link;
pub use queue::Queues;
pub(crate) use restore::{Sweeper, eval, texts};
pub use url::Endpoint;
