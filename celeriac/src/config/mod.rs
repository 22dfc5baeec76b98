//! Settings under Celery's lower-case names, with Celery's defaults (`celery/app/defaults.py`, celery 5.7.0).
//!
//! Sources, a later one wins: the defaults (or what the program put into its own [`Config`]), a TOML file, the
//! environment (`CELERY_TASK_ACKS_LATE=1`), and the command line (`--task-acks-late=1`, see [`cli`]).
//!
//! ```
//! use celeriac::config::Config;
//!
//! let mut config = Config::default();
//! config.merge_toml("task_acks_late = true\nworker_prefetch_multiplier = 1", "proj.toml")?;
//! config.merge_env([("CELERY_WORKER_PREFETCH_MULTIPLIER", "2")])?;
//! config.set("broker_url", "redis://127.0.0.1:6379/0")?;
//! assert!(config.task_acks_late);
//! assert_eq!(config.worker_prefetch_multiplier, 2);
//! # Ok::<(), celeriac::config::ConfigError>(())
//! ```

mod accept;
#[cfg(feature = "cli")]
pub mod cli;
mod credentials;
mod describe;
mod environment;
mod error;
mod fixed;
mod kinds;
mod known_options;
mod mask;
mod nearest;
mod node_name;
mod publish_retry;
mod queues;
mod rate_limit;
mod remarks;
mod routes;
mod setting;
mod source;
mod ssl;
mod table;
mod transport_options;
mod url;
mod value;

pub use accept::AcceptContent;
pub use credentials::CredentialCommand;
pub use describe::markdown;
pub use error::ConfigError;
pub use fixed::{AlwaysOff, SentProtocol};
pub use kinds::{
    BodySerializer, Compression, Concurrency, DeliveryMode, ExchangeType, FailoverStrategy, LogLevel, Pool,
    QueueType, Serializer,
};
pub use mask::mask_settings;
pub use node_name::{NodeName, expand_node_format};
pub use publish_retry::PublishRetryPolicy;
pub use queues::{BoundQueue, QueueDefinition, Queues};
pub use rate_limit::RateLimit;
pub use routes::{Route, Routes};
pub use setting::Setting;
pub use ssl::Ssl;
pub use table::{Config, settings};
pub use transport_options::{QueueOrder, TransportOptions};
pub use url::Url;
pub use value::SettingValue;
