//! Events: what workers and clients tell about themselves and their tasks, and what can be known from it.
//!
//! Workers and clients send with a [`Dispatcher`]; monitors read with a [`Receiver`] and may keep what they read in
//! a [`State`].
//!
//! Source: celery 5.7 `celery/events/`; samples `compat-tests/vectors/events`.

mod buffer;
mod clock;
mod dispatcher;
mod event;
mod publisher;
mod receiver;
mod software;
mod state;
mod task_events;
mod task_record;
#[cfg(test)]
mod tests;
mod worker_record;
mod writer;

pub use clock::LogicalClock;
pub use dispatcher::{Dispatcher, DispatcherOptions, Vitals};
pub use event::Event;
pub use receiver::Receiver;
pub use state::{Change, State};
pub use task_events::TaskEvents;
pub use task_record::TaskRecord;
pub use worker_record::WorkerRecord;

pub(crate) use publisher::publish_until;
pub(crate) use receiver::events_of;
pub(crate) use software::{system, unix_now};
