//! What an error of rusty-celery means to celeriac: by the rules of its tracer (celery 0.5.5 `src/app/trace.rs`).

use celeriac::task::{Retry, TaskError};
use celery::task::Task;

use crate::failure;

/// A retry, or the failure when the task does not retry for such an error; when no retry is left celeriac's worker turns
/// the one into the other.
pub(crate) fn of<T: Task>(task: &T, error: celery::error::TaskError) -> TaskError {
    use celery::error::TaskError as Rusty;
    let (failure, retries, eta) = match error {
        Rusty::ExpectedError(text) => (failure("ExpectedError", &text), true, None),
        Rusty::UnexpectedError(text) => (failure("UnexpectedError", &text), task.retry_for_unexpected(), None),
        Rusty::TimeoutError => (TaskError::builtin("TimeoutError", "task timed out"), true, None),
        Rusty::Retry(eta) => (failure("Retry", "task retry triggered"), true, eta),
    };
    if !retries {
        return failure;
    }
    let mut retry = Retry::default().exc(failure);
    retry.eta = eta.or_else(|| task.retry_eta());
    retry.into()
}
