//! The Redis transport, in kombu's key layout.
//!
//! Source: kombu 5.7 `kombu/transport/redis.py` and `kombu/transport/virtual/base.py`; transcripts in
//! `compat-tests/vectors/monitor`.

mod batch;
mod bindings;
mod broadcast;
mod clock;
mod connection;
mod consumer;
mod dead_letters;
mod dial;
mod endpoint;
mod eviction;
mod examine;
mod exchange;
mod fanout;
mod find;
mod health;
mod inflight;
mod info;
mod keys;
mod limit;
mod link;
mod lists;
mod marks;
mod peers;
mod queue;
mod redirect;
mod refusal;
mod reply;
mod restore;
mod revocations;
mod rights;
mod script;
mod selection;
mod survey;
mod timing;
mod tls;
mod transaction;
mod url;

pub(crate) use batch::{Commands, Replies, guarded_batch};
pub(crate) use consumer::{Consumer, ConsumerOptions, takeover};
pub(crate) use dead_letters::{DeadLetterQueue, DeadLetters};
pub use endpoint::Endpoint;
pub(crate) use eviction::warn_of_eviction;
pub(crate) use examine::examine_server;
pub(crate) use exchange::{arguments, largest};
pub use keys::{Keys, KeysOptions};
pub(crate) use limit::{ask_for_limit, limit};
pub use link::Link;
pub use queue::Queues;
pub(crate) use refusal::refuses_everything;
pub(crate) use reply::{ReplyQueue, ReplyQueues};
pub(crate) use restore::Sweeper;
pub(crate) use rights::watch_results;
pub(crate) use script::{eval, texts};
pub(crate) use selection::Results;
pub(crate) use survey::{each_key, literally};
pub use timing::Timing;
