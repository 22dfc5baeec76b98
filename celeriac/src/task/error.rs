//! How a task ends when it does not return a value.

use std::any::type_name;
use std::fmt;

use crate::backend::ExceptionInfo;
use crate::message::{Signature, Value};

use super::Retry;

/// What a task function returns.
pub type TaskResult<T> = Result<T, TaskError>;

/// The ways in which a task ends without a value.
///
/// Any error converts into a failure, so that `?` works on it in a task function. For this conversion to exist, this
/// type is not itself a [`std::error::Error`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TaskError {
    /// The task failed; the exception is stored and raised by whoever reads the result.
    Failure(Box<Failure>),
    /// The task is to be run again.
    Retry(Box<Retry>),
    /// The task ends without storing a result or triggering anything.
    Ignore,
    /// The message is rejected: handed back to the queue, or dropped with a stored failure.
    Reject {
        /// Why.
        reason: String,
        /// Whether the message goes back to its queue.
        requeue: bool,
    },
    /// Another signature takes this task's place, its id included.
    Replace(Box<Signature>),
    /// The soft time limit passed and the task did not handle it.
    SoftTimeLimitExceeded,
}

/// A failure with its exception as Python will see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The exception.
    pub exception: ExceptionInfo,
    /// Traceback text; made up from the exception when absent.
    pub traceback: Option<String>,
    /// Whether it was foreseen: logged as information, without a traceback.
    pub expected: bool,
}

impl Failure {
    /// The exception's text.
    pub fn text(&self) -> String {
        match self.exception.exc_message.as_slice() {
            [] => String::new(),
            [Value::Str(text)] => text.clone(),
            args => format!("{args:?}"),
        }
    }
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

    /// Whether the task failed, rather than asking for something else.
    pub fn is_failure(&self) -> bool {
        matches!(self, TaskError::Failure(_) | TaskError::SoftTimeLimitExceeded)
    }

    /// The failure, when it is one.
    pub fn failure(&self) -> Option<&Failure> {
        if let TaskError::Failure(failure) = self { Some(failure) } else { None }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Failure(failure) => {
                write!(formatter, "{}: {}", failure.exception.exc_type, failure.text())
            }
            TaskError::Retry(_) => formatter.write_str("retry"),
            TaskError::Ignore => formatter.write_str("ignored"),
            TaskError::Reject { reason, .. } => write!(formatter, "rejected: {reason}"),
            TaskError::Replace(signature) => write!(formatter, "replaced by {}", signature.task),
            TaskError::SoftTimeLimitExceeded => formatter.write_str("soft time limit exceeded"),
        }
    }
}

/// A failure whose class and module are the name and path of the error's type, and whose text is that of the error
/// and its sources.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        let path = type_name::<E>().split('<').next().unwrap_or_default();
        let (module, class) = path.rsplit_once("::").unwrap_or(("builtins", path));
        let text = Value::Str(text_with_sources(&error));
        Self::exception(ExceptionInfo::new(&module.replace("::", "."), class, vec![text]))
    }
}

/// Some errors already tell their source; it is not told twice.
fn text_with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
