//! Brokers: moving messages, nothing about tasks.

mod error;
pub mod redis;
pub(crate) mod refusal;

pub use error::BrokerError;
