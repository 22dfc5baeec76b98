//! How a task asks to be run again.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{TaskError, TaskResult};
use crate::backend::ExceptionInfo;
use crate::message::{Map, Value};

/// How a task is to be run again; every part that is absent stays as it was.
///
/// Made by [`Context::retry`](super::Context::retry) and [`Context::backoff`](super::Context::backoff).
///
/// ```
/// use celeriac::prelude::*;
///
/// #[celeriac::task]
/// async fn poll(ctx: Context, ready: bool) -> TaskResult<()> {
///     if !ready {
///         Err(ctx.retry().countdown(5).max_retries(10))?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a retry does nothing until the task returns it as its error"]
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

impl Retry {
    /// Run again after that time.
    pub fn countdown(mut self, countdown: impl Into<Seconds>) -> Self {
        self.countdown = Some(countdown.into().0);
        self
    }

    /// Run again at that time.
    pub fn eta(mut self, eta: DateTime<Utc>) -> Self {
        self.eta = Some(eta);
        self
    }

    /// Store that error's exception, and fail with it when no retry is left.
    pub fn exc(mut self, error: impl Into<TaskError>) -> Self {
        if let TaskError::Failure(failure) = error.into() {
            self.exception = Some(failure.exception);
        }
        self
    }

    /// Run again with those positional arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        self.args = Some(args.into_iter().map(Into::into).collect());
        self
    }

    /// Run again with those keyword arguments.
    pub fn kwargs(mut self, kwargs: Map) -> Self {
        self.kwargs = Some(kwargs);
        self
    }

    /// At most so many retries this time; `None` is without limit.
    pub fn max_retries(mut self, max_retries: impl Into<Option<u32>>) -> Self {
        self.max_retries = Some(max_retries.into());
        self
    }

    /// Run again with that option of `apply_async`, such as `queue` or `priority`.
    pub fn option(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }
}

impl From<Retry> for TaskError {
    fn from(retry: Retry) -> Self {
        TaskError::Retry(Box::new(retry))
    }
}

/// A length of time in seconds, from a [`Duration`] or a plain number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Seconds(pub f64);

macro_rules! seconds {
    ($($type:ty => |$value:ident| $conversion:expr;)*) => {
        $(impl From<$type> for Seconds {
            fn from($value: $type) -> Self {
                Seconds($conversion)
            }
        })*
    };
}

seconds! {
    Duration => |value| value.as_secs_f64();
    f64 => |value| value;
    i32 => |value| value.into();
    u32 => |value| value.into();
    i64 => |value| value as f64;
    u64 => |value| value as f64;
}

/// What a task does about the error of something that it called.
///
/// ```
/// use celeriac::prelude::*;
///
/// #[celeriac::task(max_retries = 5, retry_backoff = 2)]
/// async fn import(ctx: Context, text: String) -> TaskResult<i64> {
///     let number: i64 = text.parse().with_expected_err(|| "cannot import")?;
///     let total = number.checked_add(1).ok_or(std::fmt::Error).retry(ctx.backoff())?;
///     Ok(total)
/// }
/// ```
pub trait TaskResultExt<T> {
    /// Fails with the error, and that text before its own, as with something that was foreseen.
    ///
    /// # Errors
    /// The error, as a task error.
    fn with_expected_err<C: std::fmt::Display>(self, text: impl FnOnce() -> C) -> TaskResult<T>;

    /// Fails with the error, and that text before its own.
    ///
    /// # Errors
    /// The error, as a task error.
    fn with_unexpected_err<C: std::fmt::Display>(self, text: impl FnOnce() -> C) -> TaskResult<T>;

    /// Runs the task again because of the error, which is raised when no retry is left.
    ///
    /// # Errors
    /// The retry; an error that is no failure (`Ignore`, `Reject`, another retry) stays what it is.
    fn retry(self, retry: Retry) -> TaskResult<T>;
}

impl<T, E: Into<TaskError>> TaskResultExt<T> for Result<T, E> {
    fn with_expected_err<C: std::fmt::Display>(self, text: impl FnOnce() -> C) -> TaskResult<T> {
        self.map_err(|error| explained(error.into(), text, true))
    }

    fn with_unexpected_err<C: std::fmt::Display>(self, text: impl FnOnce() -> C) -> TaskResult<T> {
        self.map_err(|error| explained(error.into(), text, false))
    }

    fn retry(self, mut retry: Retry) -> TaskResult<T> {
        self.map_err(|error| match error.into() {
            TaskError::Failure(failure) => {
                retry.exception.get_or_insert(failure.exception);
                retry.into()
            }
            other => other,
        })
    }
}

fn explained<C: std::fmt::Display>(error: TaskError, text: impl FnOnce() -> C, expected: bool) -> TaskError {
    let TaskError::Failure(mut failure) = error else { return error };
    failure.exception.exc_message = vec![Value::Str(format!("{}: {}", text(), failure.text()))];
    failure.expected = expected;
    TaskError::Failure(failure)
}
