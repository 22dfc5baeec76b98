//! What can go wrong between an application and its tasks.

use std::fmt;
use std::time::Duration;

use crate::backend::{BackendError, ExceptionInfo, TaskState};
use crate::broker::BrokerError;
use crate::canvas::CanvasError;
use crate::config::ConfigError;
use crate::message::ProtocolError;

/// The result of most calls of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of this crate.
///
/// It prints the same text with `{}` and `{:?}`, so that a `main` that returns it says what is wrong.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is bad.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A setting that is needed is absent.
    #[error("{setting} is not set\nhint: set {variable}, for example to {example}")]
    MissingSetting {
        /// Name of the setting.
        setting: &'static str,
        /// The environment variable that sets it.
        variable: &'static str,
        /// A value that would do.
        example: &'static str,
    },
    /// Tasks would be consumed at one broker and published at another one.
    #[error(
        "broker_read_url and broker_write_url (or broker_url, where one is not set) are different\nhint: give one \
         broker: what a task sends is published together with its acknowledgement"
    )]
    TwoBrokers,
    /// The process cannot become what its command line asks for.
    #[error(transparent)]
    Process(#[from] crate::daemon::ProcessError),
    /// The broker failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The result backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A setting for messages is bad, or a message cannot be written or read.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A signature cannot be applied.
    #[error(transparent)]
    Canvas(#[from] CanvasError),
    /// There is no result backend to ask.
    #[error(
        "no result backend is configured\nhint: set result_backend, for example to redis://127.0.0.1:6379/0"
    )]
    NoBackend,
    /// A task failed, or was revoked.
    #[error("task {task_id} ended as {state}: {}", .exception.repr())]
    Task {
        /// Task id.
        task_id: String,
        /// State of the task.
        state: TaskState,
        /// The exception as the task raised it.
        exception: Box<ExceptionInfo>,
        /// Its traceback.
        traceback: Option<String>,
    },
    /// A task was not ready in time; its state is unchanged.
    #[error("task {task_id} was not ready within {}s", .deadline.as_secs_f32())]
    Timeout {
        /// Task id.
        task_id: String,
        /// The time that was allowed.
        deadline: Duration,
    },
    /// A result has another type than was asked for.
    #[error("the result of task {task_id} has another type: {reason}")]
    ResultType {
        /// Task id.
        task_id: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// The worker cannot start as it was built, or has lost a part of itself.
    #[error(transparent)]
    Worker(#[from] crate::worker::WorkerError),
}

impl Error {
    /// Returns whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Broker(error) => error.is_retryable(),
            Self::Backend(error) => error.is_retryable(),
            Self::Timeout { .. } => true,
            _ => false,
        }
    }

    /// Returns the code of the error that a server answered with, such as `WRONGTYPE`.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Broker(error) => error.code(),
            Self::Backend(error) => error.code(),
            _ => None,
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
