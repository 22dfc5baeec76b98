//! The Redis transport, in kombu's key layout.
//!
//! Source: kombu 5.7 `kombu/transport/redis.py` and `kombu/transport/virtual/base.py`; transcripts in
//! `compat-tests/vectors/monitor`.

mod bindings;
mod clock;
mod connection;
mod consumer;
mod dead_letter;
mod dead_letters;
mod dial;
mod endpoint;
mod eviction;
mod exchange;
mod fanout;
mod find;
mod inflight;
mod keys;
mod limit;
mod link;
mod persistence;
mod queue;
mod redirect;
mod refusals;
mod restore;
mod rights;
mod script;
mod timing;
mod tls;
mod transaction;
mod troubles;
mod url;

pub(crate) use consumer::{
    Binding, Consumer, ConsumerHandle, ConsumerOptions, Delivery, Disposition, Hopeless, Owner, Receiver,
    Settlement, Taken,
};
pub use dead_letter::{DeadLetter, DeadReason, Start};
pub(crate) use dead_letters::{DeadLetterCount, DeadLetterQueue};
pub use dead_letters::{DeadLetters, Fate};
pub use endpoint::Endpoint;
pub(crate) use eviction::warn_of_eviction;
pub(crate) use exchange::{arguments, guarded, largest};
pub use fanout::Subscription;
pub use keys::{Keys, KeysOptions};
pub(crate) use limit::{ask_for_limit, limit};
pub use link::Link;
pub(crate) use persistence::Persistence;
pub use queue::Queues;
pub(crate) use refusals::{Effect, Refusal, Refusals, refuses_everything};
pub(crate) use restore::{Sweeper, Unsettled};
pub(crate) use rights::watch_results;
pub(crate) use script::{eval, texts};
pub use timing::Timing;
