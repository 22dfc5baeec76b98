//! Failures of a result backend.

use std::path::PathBuf;
use std::time::Duration;

use crate::broker::BrokerError;
use crate::broker::refusal::{self, RefusalKind};
use crate::message::ProtocolError;

/// A failure of the result backend, of the way to it, or of what it keeps.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The URL cannot be used.
    #[error("{setting}: cannot use {url}: {reason}")]
    BadUrl {
        /// The setting that holds the URL.
        setting: &'static str,
        /// The URL without its password.
        url: String,
        /// The fault in it.
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
        /// The fault.
        reason: String,
    },
    /// The server was reached, but the two sides do not agree on TLS.
    #[error("no TLS with {url}: {reason}\nhint: {hint}")]
    Tls {
        /// The URL without its password.
        url: String,
        /// The fault.
        reason: String,
        /// Advice.
        hint: &'static str,
    },
    /// The server cannot be reached, or the connection broke.
    #[error("connection to {url} failed: {reason}")]
    Connection {
        /// The URL without its password.
        url: String,
        /// The reason.
        reason: String,
    },
    /// The server did not answer in time, or a result was not ready in time.
    #[error("{url} did not answer within {}s", .deadline.as_secs_f32())]
    Timeout {
        /// The URL without its password.
        url: String,
        /// The time that was allowed.
        deadline: Duration,
    },
    /// The server answered with an error.
    #[error("{url} refused {command}: {reason}")]
    Refused {
        /// The URL without its password.
        url: String,
        /// The command that was refused, with its key where that is known.
        command: String,
        /// The server's words, which begin with a code.
        reason: String,
    },
    /// A result backend of this kind has no such thing.
    #[error("{url} cannot {what}\nhint: {hint}")]
    Unsupported {
        /// The URL without its password.
        url: String,
        /// The request, as a verb phrase.
        what: &'static str,
        /// Advice on an alternative.
        hint: &'static str,
    },
    /// The record that is stored under an id cannot be read here as that of a task, a group or a chord.
    #[error(
        "the result {id} cannot be read: {reason}\nhint: see result_serializer and result_accept_content"
    )]
    Unreadable {
        /// The id of the task, group or chord.
        id: String,
        /// The fault in the record.
        reason: Box<ProtocolError>,
    },
}

impl BackendError {
    /// Returns the error for a record of that id which cannot be read.
    pub(crate) fn unreadable(id: &str) -> impl FnOnce(ProtocolError) -> Self {
        |reason| Self::Unreadable { id: id.to_owned(), reason: Box::new(reason) }
    }

    /// Returns whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::Timeout { .. } => true,
            Self::Refused { .. } => self.code().is_some_and(|code| {
                !matches!(code, "NOAUTH" | "WRONGPASS") && refusal::kind(code) != RefusalKind::Lasting
            }),
            Self::BadUrl { .. }
            | Self::BadTls { .. }
            | Self::Tls { .. }
            | Self::Unsupported { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// Returns the code of the error that the server answered with, such as `WRONGTYPE`.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { reason, .. } => Some(refusal::code(reason)),
            _ => None,
        }
    }
}

/// A backend may lie at the same kind of server as a broker, and use its connections.
impl From<BrokerError> for BackendError {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::BadUrl { setting, url, reason } => Self::BadUrl { setting, url, reason },
            BrokerError::BadTls { url, setting, option, file, reason } => {
                Self::BadTls { url, setting, option, file, reason }
            }
            BrokerError::Tls { url, reason, hint } => Self::Tls { url, reason, hint },
            BrokerError::Connection { url, reason } | BrokerError::GaveUp { url, reason, .. } => {
                Self::Connection { url, reason }
            }
            BrokerError::Timeout { url, deadline } | BrokerError::NotPublished { url, deadline, .. } => {
                Self::Timeout { url, deadline }
            }
            BrokerError::Refused { url, command, reason } => Self::Refused { url, command, reason },
            BrokerError::Unsupported { url, what, hint } => Self::Unsupported { url, what, hint },
            BrokerError::Protocol(reason) => Self::Unreadable { id: String::new(), reason: Box::new(reason) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: &str) -> BackendError {
        BackendError::Refused {
            url: "redis://h:6379/0".to_owned(),
            command: "SETEX celery-task-meta-LOADING".to_owned(),
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn refusals_are_told_apart_by_their_code() {
        assert!(refused("OOM command not allowed when used memory > 'maxmemory'.").is_retryable());
        assert!(refused("LOADING Redis is loading the dataset in memory").is_retryable());
        assert!(!refused("NOPERM User LOADING has no permissions").is_retryable());
        assert!(!refused("WRONGPASS invalid username-password pair").is_retryable());
        assert_eq!(refused("WRONGTYPE Operation against a key").code(), Some("WRONGTYPE"));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_named_by_its_id() {
        let error = BackendError::unreadable("the-id")(ProtocolError::bad_body("no status"));
        assert!(error.to_string().contains("the-id") && error.to_string().contains("no status"), "{error}");
        assert!(!error.is_retryable());
        assert_eq!(error.code(), None);
    }

    #[test]
    fn what_goes_wrong_on_a_connection_is_the_same_for_both() {
        let url = || "redis://h:6379/0".to_owned();
        let broker =
            BrokerError::Refused { url: url(), command: "GET a".to_owned(), reason: "OOM no".to_owned() };
        let (text, retryable) = (broker.to_string(), broker.is_retryable());
        let backend = BackendError::from(broker);
        assert_eq!((backend.to_string(), backend.is_retryable()), (text, retryable));
        let late = BackendError::from(BrokerError::Timeout { url: url(), deadline: Duration::from_secs(4) });
        assert!(matches!(late, BackendError::Timeout { .. }) && late.is_retryable(), "{late}");
    }
}
