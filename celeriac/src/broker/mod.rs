//! Brokers: moving messages, nothing about tasks.

mod error;
pub mod redis;

pub use error::BrokerError;
