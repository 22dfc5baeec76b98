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

/// Keeps a `Result` that is not named so from being stored as a value: `PlainValue(&value).check()` compiles for
/// anything else only.
///
/// ```compile_fail,E0277
/// type Fallible = Result<u32, std::fmt::Error>;
///
/// #[celeriac::task]
/// async fn odd() -> Fallible {
///     Ok(1)
/// }
/// ```
pub struct PlainValue<'a, T>(pub &'a T);

impl<T, E> PlainValue<'_, Result<T, E>> {
    /// Takes precedence over [`Plain::check`], and never compiles.
    pub fn check(&self)
    where
        Result<T, E>: NamedResult,
    {
    }
}

/// Implemented for nothing.
#[diagnostic::on_unimplemented(
    message = "this task's return type is a `Result` by another name",
    note = "write it as `Result<T, E>`, or give the alias a name that ends in `Result`"
)]
pub trait NamedResult {}

/// What is no `Result` is a plain value.
pub trait Plain {
    /// Does nothing.
    fn check(&self) {}
}

impl<T> Plain for PlainValue<'_, T> {}

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
