//! What can go wrong between this process and a broker.

use std::time::Duration;

/// A failure of the broker or of the way to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The URL cannot be used.
    #[error("cannot use broker URL {url}: {reason}")]
    BadUrl {
        /// The URL without its password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server cannot be reached, or the connection broke.
    #[error("connection to {url} failed")]
    Connection {
        /// The URL without its password.
        url: String,
        /// The driver's error.
        #[source]
        source: ::redis::RedisError,
    },
    /// The server answered with an error.
    #[error("{url} refused {command}: {reason}")]
    Refused {
        /// The URL without its password.
        url: String,
        /// The command that was refused.
        command: String,
        /// The server's words.
        reason: String,
    },
    /// The server did not answer in time.
    #[error("{url} did not answer within {}s", .deadline.as_secs_f32())]
    Timeout {
        /// The URL without its password.
        url: String,
        /// The time that was allowed.
        deadline: Duration,
    },
    /// A message that cannot be decoded.
    #[error("undecodable message")]
    Protocol(#[from] crate::message::ProtocolError),
}

impl BrokerError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            BrokerError::Connection { .. } | BrokerError::Timeout { .. } => true,
            BrokerError::Refused { reason, .. } => [
                "LOADING",
                "READONLY",
                "OOM",
                "MASTERDOWN",
                "CLUSTERDOWN",
                "TRYAGAIN",
                "BUSY",
                "EXECABORT",
                "NOREPLICAS",
            ]
            .iter()
            .any(|code| reason.contains(code)),
            BrokerError::BadUrl { .. } | BrokerError::Protocol(_) => false,
        }
    }
}
