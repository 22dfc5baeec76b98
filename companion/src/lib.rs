//! The domain of the AI companion: settings, store, reminders, chat, notifications and metrics.
//!
//! No HTTP server and no Celery in here: the API and the workers are two faces of this crate, and [`Companion`]
//! is what both of them hold. SQL lives in [`store`] only, Redis keys in [`rate_limit`],
//! [`metrics`] and [`beat_sign`] only.

pub mod analytics;
pub mod auth;
pub mod beat_sign;
pub mod chat;
mod combine;
mod context;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod rate_limit;
mod redis_link;
mod redis_url;
pub mod reminders;
pub mod settings;
pub mod store;
mod tls;

pub use context::{Companion, OpenError};
pub use redis_link::{OpenRedisError, RedisLink, RedisLinkError};
pub use redis_url::RedisUrlError;
