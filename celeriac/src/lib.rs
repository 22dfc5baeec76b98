//! The Celery protocol, native in Rust.
#![deny(missing_docs)]

mod app;
pub mod backend;
mod backoff;
pub mod broker;
pub mod canvas;
mod clock;
pub mod config;
pub mod control;
mod daemon;
mod doctor;
pub mod events;
mod failpoints;
mod finding;
mod heavy;
pub mod message;
mod node;
mod repeats;
pub mod schema;
mod serials;
mod stack;
pub mod task;
#[cfg(feature = "testing")]
pub mod testing;
pub mod worker;

pub use app::{AsyncResult, Celery, Error, Recovered, Result};
pub use celeriac_macros::task;
pub use celeriac_timezone::{Timezone, TimezoneOffset, UnknownTimezone};
pub use clock::Clock;
pub use daemon::ProcessError;
pub use doctor::Patience;
pub use finding::{Finding, Severity};
pub use message::Value;
pub use worker::Worker;

/// What most programs name.
pub mod prelude {
    pub use crate::message::Value;
    pub use crate::task;
    pub use crate::task::{Context, State, TaskError, TaskResult, TaskResultExt};
    pub use crate::worker::Stopped;
    pub use crate::{AsyncResult, Celery, Worker};
}

#[doc(hidden)]
pub mod __private {
    pub use serde_json;

    pub use crate::task::{dotted, dotted_length};

    /// Decoders that nobody else calls, for celeriac/fuzz.
    pub mod fuzz {
        use crate::events::{LogicalClock, events_of};
        use crate::message::{Accept, Message};

        /// Reads a remote control request.
        pub fn control_request(message: &Message) {
            crate::control::read_request(message);
        }

        /// Reads events.
        pub fn events(message: &Message) {
            events_of(message, &Accept::all(), &LogicalClock::default());
        }
    }
}
