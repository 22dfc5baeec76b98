//! The Celery protocol, native in Rust.
#![deny(missing_docs)]

pub mod backend;
mod backoff;
pub mod broker;
pub mod config;
pub mod message;
pub mod task;

pub use celeriac_macros::task;

/// What most programs name.
pub mod prelude {
    pub use crate::message::Value;
    pub use crate::task;
    pub use crate::task::{Context, State, TaskError, TaskResult, TaskResultExt};
}

#[doc(hidden)]
pub mod __private {
    pub use serde_json;

    pub use crate::task::{dotted, dotted_length};
}
