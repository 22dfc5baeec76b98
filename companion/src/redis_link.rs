//! The service's own connection to Redis, for counters and limits.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use crate::redis_url::{self, RedisUrlError};
use crate::settings::Secret;

/// One shared connection to Redis that is made when first needed and made again whenever it is lost.
#[derive(Clone)]
pub struct RedisLink {
    manager: ConnectionManager,
}

/// Redis does not answer as it should.
#[derive(Debug, thiserror::Error)]
#[error("redis does not answer: {0}")]
pub struct RedisLinkError(#[from] redis::RedisError);

/// The connection cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenRedisError {
    /// The URL is of no use.
    #[error("the URL of redis {0}")]
    Url(#[from] RedisUrlError),
    /// The driver refuses it.
    #[error("redis: {0}")]
    Driver(#[from] redis::RedisError),
}

impl RedisLinkError {
    /// Returns the cause in a few words, which name no address and no user.
    pub fn cause(&self) -> String {
        let words = match &self.0 {
            error if error.is_connection_refusal() => "connection refused",
            error if error.is_timeout() => "no answer",
            error if error.kind() == redis::ErrorKind::AuthenticationFailed => "wrong password",
            error if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => "wrong password",
            error if error.is_connection_dropped() => "the connection broke",
            error if error.is_io_error() => "it cannot be reached",
            error => {
                return error
                    .code()
                    .map_or("it cannot be used".to_owned(), |code| format!("it answered {code}"));
            }
        };
        words.to_owned()
    }
}

const TIMEOUT: Duration = Duration::from_secs(2);

impl RedisLink {
    /// Prepares the connection without making it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the URL, or an option of TLS in it, cannot be used.
    pub fn open(url: &Secret) -> Result<Self, OpenRedisError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT))
            .set_max_delay(Duration::from_millis(500))
            .set_number_of_retries(1);
        let manager = ConnectionManager::new_lazy_with_config(redis_url::client(url.expose())?, config)?;
        Ok(Self { manager })
    }

    /// A handle for commands; commands of all handles share the connection.
    pub(crate) fn commands(&self) -> ConnectionManager {
        self.manager.clone()
    }

    /// `PING`, to be answered by `PONG`.
    ///
    /// # Errors
    /// When no answer comes within seconds.
    pub async fn ping(&self) -> Result<(), RedisLinkError> {
        let mut commands = self.commands();
        redis::cmd("PING").query_async::<String>(&mut commands).await?;
        Ok(())
    }
}
