//! The Celery protocol, native in Rust.
#![deny(missing_docs)]

pub mod backend;
pub mod config;
pub mod message;
pub mod task;

#[doc(hidden)]
pub mod __private {
    pub use serde_json;
}
