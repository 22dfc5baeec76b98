//! The end of a task that will never complete, as data: what is stored of it, and what all that wait for it are told.
//!
//! Whatever ends a task short of its result is one of these; [`never_completes`](super::never_completes) says what
//! follows from it, and does not ask which.

use crate::backend::{ExceptionInfo, TaskState};
use crate::message::{ProtocolError, Value};

/// Why a task will never complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// What the task ends as: FAILURE or REVOKED.
    pub state: TaskState,
    /// What stands in the place of its result.
    pub exception: ExceptionInfo,
    /// The traceback, if there is one.
    pub traceback: Option<String>,
}

impl Ending {
    /// The task raised an exception, ran out of time or of retries, or its worker was lost with it.
    pub fn failed(exception: ExceptionInfo, traceback: Option<String>) -> Self {
        Self { state: TaskState::Failure, exception, traceback }
    }

    /// The task rejected its message for good.
    pub fn rejected(reason: &str) -> Self {
        let reason = if reason.is_empty() { Value::Null } else { Value::from(reason) };
        let args = vec![reason, Value::Bool(false)];
        Self::failed(ExceptionInfo::new("celery.exceptions", "Reject", args), None)
    }

    /// The message cannot be read, or says what cannot be meant.
    pub fn refused(error: &ProtocolError) -> Self {
        Self::failed(ExceptionInfo::celery("InvalidTaskError", error.to_string()), None)
    }

    /// No worker here has a task of that name.
    pub fn unregistered(name: &str) -> Self {
        Self::failed(ExceptionInfo::celery("NotRegistered", name), None)
    }

    /// The worker died at each of so many deliveries.
    pub fn poisonous(deliveries: usize) -> Self {
        let text = format!("Worker died at each of {deliveries} deliveries");
        Self::failed(ExceptionInfo::new("billiard.exceptions", "WorkerLostError", vec![text.into()]), None)
    }

    /// The task was revoked before it started or terminated while it ran, or it expired: `revoked`, `terminated`,
    /// `expired`.
    pub fn revoked(reason: &str) -> Self {
        let exception = ExceptionInfo::celery("TaskRevokedError", reason);
        Self { state: TaskState::Revoked, exception, traceback: None }
    }
}
