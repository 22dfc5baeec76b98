//! How a task ends when it does not return a value.

use chrono::{DateTime, Utc};

use crate::backend::ExceptionInfo;
use crate::message::{Map, Signature, Value};

/// What a task function returns.
pub type TaskResult<T> = Result<T, TaskError>;

/// The ways in which a task ends without a value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The task failed; the exception is stored and raised by whoever reads the result.
    #[error("{}: {}", .0.exception.exc_type, .0.text())]
    Failure(Box<Failure>),
    /// The task is to be run again.
    #[error("retry")]
    Retry(Box<Retry>),
    /// The task ends without storing a result or triggering anything.
    #[error("ignored")]
    Ignore,
    /// The message is rejected: handed back to the queue, or dropped with a stored failure.
    #[error("rejected: {reason}")]
    Reject {
        /// Why.
        reason: String,
        /// Whether the message goes back to its queue.
        requeue: bool,
    },
    /// Another signature takes this task's place, its id included.
    #[error("replaced by {}", .0.task)]
    Replace(Box<Signature>),
    /// The soft time limit passed and the task did not handle it.
    #[error("soft time limit exceeded")]
    SoftTimeLimitExceeded,
}

/// A failure with its exception as Python will see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The exception.
    pub exception: ExceptionInfo,
    /// Traceback text; made up from the exception when absent.
    pub traceback: Option<String>,
    /// Class and module names by which `autoretry_for` and `throws` know it, the exception's own class first.
    pub expected: bool,
}

impl Failure {
    fn text(&self) -> String {
        match self.exception.exc_message.as_slice() {
            [] => String::new(),
            [Value::Str(text)] => text.clone(),
            args => format!("{args:?}"),
        }
    }
}

/// How a task is to be run again; every part that is absent stays as it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retry {
    /// New positional arguments.
    pub args: Option<Vec<Value>>,
    /// New keyword arguments.
    pub kwargs: Option<Map>,
    /// When to run again; wins over `countdown`.
    pub eta: Option<DateTime<Utc>>,
    /// Seconds until the next run; the task's `default_retry_delay` when neither is given.
    pub countdown: Option<f64>,
    /// The limit for this retry; `Some(None)` is without limit.
    pub max_retries: Option<Option<u32>>,
    /// The exception that is stored, and raised when no retry is left.
    pub exception: Option<ExceptionInfo>,
    /// Other options of `apply_async` for the next run (`queue`, `priority`, `expires`, `soft_time_limit`, ...).
    pub options: Map,
}

impl TaskError {
    /// A failure seen in Python as that built-in exception.
    pub fn builtin(class: &str, text: impl Into<String>) -> Self {
        Self::exception(ExceptionInfo::builtin(class, text))
    }

    /// A failure with that exception.
    pub fn exception(exception: ExceptionInfo) -> Self {
        TaskError::Failure(Box::new(Failure { exception, traceback: None, expected: false }))
    }

    /// A failure that was foreseen: logged as information, without a traceback.
    pub fn expected(text: impl Into<String>) -> Self {
        TaskError::Failure(Box::new(Failure {
            exception: ExceptionInfo::builtin("Exception", text),
            traceback: None,
            expected: true,
        }))
    }

    /// A failure that was not foreseen.
    pub fn unexpected(text: impl Into<String>) -> Self {
        Self::builtin("Exception", text)
    }
}
