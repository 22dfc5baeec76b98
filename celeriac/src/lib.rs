//! The Celery protocol, native in Rust.
#![deny(missing_docs)]

pub mod message;

#[doc(hidden)]
pub mod __private {
    pub use serde_json;
}
