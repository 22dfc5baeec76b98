//! What can go wrong between this process and a broker.

use std::path::PathBuf;
use std::time::Duration;

use super::refusal::{self, RefusalKind};

/// A failure of the broker or of the way to it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The URL cannot be used.
    #[error("{setting}: cannot use {url}: {reason}")]
    BadUrl {
        /// The setting that holds the URL.
        setting: &'static str,
        /// The URL without its password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An option of TLS, or a file that it names, cannot be used.
    #[error("{setting} for {url}: option {option}{} cannot be used: {reason}", file.as_ref().map_or(String::new(), |file| format!(", file {},", file.display())))]
    BadTls {
        /// The URL without its password.
        url: String,
        /// The setting that holds such options.
        setting: &'static str,
        /// The option, which may also stand in the URL.
        option: String,
        /// The file that the option names.
        file: Option<PathBuf>,
        /// What is wrong.
        reason: String,
    },
    /// The server was reached, but the two sides do not agree on TLS: one does not trust the other, or only one speaks it.
    #[error("no TLS with {url}: {reason}\nhint: {hint}")]
    Tls {
        /// The URL without its password.
        url: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// The server cannot be reached, or the connection broke.
    #[error("connection to {url} failed: {reason}")]
    Connection {
        /// The URL without its password.
        url: String,
        /// What happened to it.
        reason: String,
    },
    /// The server answered with an error.
    #[error("{url} refused {command}: {reason}")]
    Refused {
        /// The URL without its password.
        url: String,
        /// The command that was refused, with its key where that is known.
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
    /// Something could not be published within the time that was allowed; it may have arrived nevertheless.
    #[error("{url} took nothing within {}s (celeriac_publish_timeout){reason}", .deadline.as_secs_f32())]
    NotPublished {
        /// The URL without its password.
        url: String,
        /// The time that was allowed.
        deadline: Duration,
        /// The failure of the last try, if one failed before the time was over.
        reason: String,
    },
    /// The worker gave its broker up.
    #[error(
        "gave up {url} after {attempts} attempt(s): {reason}\nhint: see broker_connection_retry, broker_connection_retry_on_startup and broker_connection_max_retries"
    )]
    GaveUp {
        /// The URL without its password.
        url: String,
        /// How often in a row it was tried in vain.
        attempts: u32,
        /// The last failure.
        reason: String,
    },
    /// A broker of this kind has no such thing.
    #[error("{url} cannot {what}\nhint: {hint}")]
    Unsupported {
        /// The URL without its password.
        url: String,
        /// The request, as a verb phrase.
        what: &'static str,
        /// Advice on an alternative.
        hint: &'static str,
    },
    /// A message that cannot be decoded.
    #[error("undecodable message")]
    Protocol(#[from] crate::message::ProtocolError),
}

impl BrokerError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            BrokerError::Connection { .. }
            | BrokerError::Timeout { .. }
            | BrokerError::NotPublished { .. }
            | BrokerError::GaveUp { .. } => true,
            BrokerError::Refused { reason, .. } => {
                !matches!(refusal::code(reason), "NOAUTH" | "WRONGPASS")
                    && refusal::kind(reason) != RefusalKind::Lasting
            }
            BrokerError::BadUrl { .. }
            | BrokerError::BadTls { .. }
            | BrokerError::Tls { .. }
            | BrokerError::Unsupported { .. }
            | BrokerError::Protocol(_) => false,
        }
    }

    /// The code of the error that the server answered with, such as `WRONGTYPE`.
    pub fn code(&self) -> Option<&str> {
        match self {
            BrokerError::Refused { reason, .. } => Some(refusal::code(reason)),
            _ => None,
        }
    }
}
