//! How the program fails.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use celeriac::Error;
use celeriac::backend::BackendError;
use celeriac::broker::BrokerError;

use crate::out::complain;

/// No worker replied, or the broker is away (`EX_UNAVAILABLE` of `sysexits.h`).
const UNAVAILABLE: u8 = 69;
/// The command line cannot be understood.
const USAGE: u8 = 2;

/// Why there is no answer, and with which status that is said.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    text: String,
    status: u8,
}

impl Failure {
    /// The command line or a setting is not valid.
    pub(crate) fn usage(text: impl Display) -> Self {
        Self { text: text.to_string(), status: USAGE }
    }

    /// What was asked for did not happen.
    pub(crate) fn failed(text: impl Display) -> Self {
        Self { text: text.to_string(), status: 1 }
    }

    /// Something else, with the status that it asks for.
    pub(crate) fn with_status(text: impl Display, status: u8) -> Self {
        Self { text: text.to_string(), status }
    }

    /// Nobody is there.
    pub(crate) fn no_nodes() -> Self {
        Self { text: "No nodes replied within time constraint".to_owned(), status: UNAVAILABLE }
    }

    /// Says what is wrong, unless nobody reads any more, and gives the status to end with.
    pub(crate) fn report(&self) -> ExitCode {
        if self.status != 0 {
            complain(format_args!("Error: {self}"));
        }
        ExitCode::from(self.status)
    }
}

/// Of the output: a reader that has seen enough, as in `celeriac ... | head`, is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let status = u8::from(error.kind() != io::ErrorKind::BrokenPipe);
        Self { text: format!("the output cannot be written: {error}"), status }
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        let text = format!(
            "Could not connect to the message broker. Reason: {error}\nhint: check the broker and CELERY_BROKER_URL, or say -b URL"
        );
        Self { text, status: UNAVAILABLE }
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        if let BackendError::Unreadable { .. } = error {
            return Self::failed(error);
        }
        let text = format!(
            "Could not connect to the result backend. Reason: {error}\nhint: check the result backend and CELERY_RESULT_BACKEND, or say --result-backend URL"
        );
        Self { text, status: UNAVAILABLE }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Broker(error) => error.into(),
            Error::Backend(error) => error.into(),
            error => Self::failed(error),
        }
    }
}
