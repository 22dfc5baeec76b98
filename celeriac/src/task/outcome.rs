//! What a task function returns, turned into what the worker stores.

use serde::Serialize;

use super::{TaskError, TaskResult};
use crate::backend::ExceptionInfo;
use crate::message::{Value, to_value};

/// A `Result` that a task function may return.
#[diagnostic::on_unimplemented(
    message = "a task cannot return `{Self}`",
    note = "return a value that implements `serde::Serialize`, or a `Result` whose error converts into `TaskError`",
    note = "a return type whose name ends in `Result` is taken for a result: give a plain value type another name"
)]
pub trait Outcome {
    /// What the task returns when it succeeds.
    type Value: Serialize;

    /// The result with the task's kind of error.
    ///
    /// # Errors
    /// The task's error.
    fn into_task_result(self) -> TaskResult<Self::Value>;
}

impl<T: Serialize, E: Into<TaskError>> Outcome for Result<T, E> {
    type Value = T;

    fn into_task_result(self) -> TaskResult<T> {
        self.map_err(Into::into)
    }
}

/// The value as it is stored.
///
/// # Errors
/// `kombu.exceptions.EncodeError`, as from a Celery worker, when the value cannot be serialised.
pub fn encode_returned<T: Serialize>(returned: &T) -> TaskResult<Value> {
    to_value(returned).map_err(|error| {
        let text = Value::Str(format!("cannot serialise the task's return value: {error}"));
        TaskError::exception(ExceptionInfo::new("kombu.exceptions", "EncodeError", vec![text]))
    })
}
