//! Remote control: commands that reach every worker of a fleet, and the answers.
//!
//! [`Control`] and [`Inspect`] are the side that asks. A worker answers with a pidbox on a thread of its own, so that
//! tasks that keep every other thread busy delay no answer.
//!
//! Source: celery 5.7 `celery/app/control.py`, `celery/worker/control.py`, kombu 5.7 `kombu/pidbox.py`; samples
//! `compat-tests/vectors/control`.

mod actions;
mod arguments;
mod client;
mod commands;
mod gossip;
mod info;
mod inspect;
mod mailbox;
mod matcher;
mod mingle;
mod panel;
mod peers;
mod pidbox;
mod ping;
mod probes;
mod python;
mod revocations;
mod service;
mod signal;
#[cfg(test)]
mod tests;
mod worker_port;

pub(crate) use mailbox::read_request;

pub use arguments::Arguments;
pub use client::{Broadcast, Control, ControlReply, Replies};
pub use commands::{Argument, ArgumentKind, BuiltIns, COMMANDS, CommandKind, CommandSpec, Commands, Failed};
pub use info::{
    AutoscalerInfo, DeliveryInfo, ExchangeInfo, QueueInfo, ScheduledTask, StoredTask, TaskInfo, WorkerStats,
};
pub use inspect::{Answers, Inspect};
pub use matcher::{MatchError, Matcher};

pub(crate) use mingle::mingle;
pub(crate) use peers::compare;
pub(crate) use revocations::Revocations;
pub(crate) use service::{Service, ServiceOptions};
pub(crate) use worker_port::{Condition, PoolInfo, WorkerPort};
