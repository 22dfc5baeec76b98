//! What a result backend keeps of a task: its state, its result or exception, and the results that it led to.

use chrono::{DateTime, Utc};

use super::ResultRef;
use crate::message::{Map, Value};

/// State of a task, upper case on the wire.
///
/// Source: celery 5.7 `celery/states.py`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// Unknown, or not finished: nothing is stored.
    Pending,
    /// Started, when `task_track_started` is on.
    Started,
    /// Finished with a return value.
    Success,
    /// Finished with an exception.
    Failure,
    /// Will be run again.
    Retry,
    /// Expired or revoked before, or terminated while, it ran.
    Revoked,
    /// A state of the task's own, such as `PROGRESS`.
    Custom(String),
}

impl TaskState {
    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            TaskState::Pending => "PENDING",
            TaskState::Started => "STARTED",
            TaskState::Success => "SUCCESS",
            TaskState::Failure => "FAILURE",
            TaskState::Retry => "RETRY",
            TaskState::Revoked => "REVOKED",
            TaskState::Custom(name) => name,
        }
    }

    /// The state of that name; any unknown name is a custom state.
    pub fn from_name(name: &str) -> Self {
        match name {
            "PENDING" => TaskState::Pending,
            "STARTED" => TaskState::Started,
            "SUCCESS" => TaskState::Success,
            "FAILURE" => TaskState::Failure,
            "RETRY" => TaskState::Retry,
            "REVOKED" => TaskState::Revoked,
            custom => TaskState::Custom(custom.to_owned()),
        }
    }

    /// Whether the task will not change any more.
    pub fn is_ready(&self) -> bool {
        matches!(self, TaskState::Success | TaskState::Failure | TaskState::Revoked)
    }

    /// Whether the stored result is an exception.
    pub fn is_exception(&self) -> bool {
        matches!(self, TaskState::Failure | TaskState::Revoked | TaskState::Retry)
    }
}

impl std::fmt::Display for TaskState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An exception as Celery stores it: `{"exc_type", "exc_message", "exc_module"}`.
///
/// Source: celery 5.7 `celery/backends/base.py` `prepare_exception`; samples `vectors/results/failure*.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExceptionInfo {
    /// Qualified class name, such as `ValueError`.
    pub exc_type: String,
    /// The arguments of the exception's constructor.
    pub exc_message: Vec<Value>,
    /// Python module of the class, such as `builtins`.
    pub exc_module: Option<String>,
}

impl ExceptionInfo {
    /// An exception of that class and module with those constructor arguments.
    pub fn new(module: &str, class: &str, args: Vec<Value>) -> Self {
        Self { exc_type: class.to_owned(), exc_message: args, exc_module: Some(module.to_owned()) }
    }

    /// One of Python's built-in exceptions with one text argument.
    pub fn builtin(class: &str, text: impl Into<String>) -> Self {
        Self::new("builtins", class, vec![Value::Str(text.into())])
    }

    /// One of `celery.exceptions` with one text argument.
    pub fn celery(class: &str, text: impl Into<String>) -> Self {
        Self::new("celery.exceptions", class, vec![Value::Str(text.into())])
    }
}

/// The stored record of one task.
///
/// Source: celery 5.7 `celery/backends/base.py` `_get_result_meta`; samples `vectors/results`.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskMeta {
    /// Task id.
    pub task_id: String,
    /// State.
    pub status: TaskState,
    /// Return value, exception object or state meta, in its wire form.
    pub result: Value,
    /// Traceback text.
    pub traceback: Option<String>,
    /// Results of the tasks sent while this one ran; `None` when no request is known.
    pub children: Option<Vec<ResultRef>>,
    /// When the task finished; `None` for states that are not ready.
    pub date_done: Option<DateTime<Utc>>,
    /// Group of the task.
    pub group_id: Option<String>,
    /// Task that sent this one.
    pub parent_id: Option<String>,
    /// What `result_extended` adds (name, args, kwargs, worker, retries, queue, stamps), in Celery's order.
    pub extended: Map,
}

impl TaskMeta {
    /// A record of that state with nothing else known.
    pub fn new(task_id: impl Into<String>, status: TaskState, result: Value) -> Self {
        Self::at(Utc::now(), task_id.into(), status, result)
    }

    /// A record of that state, which came at that time.
    pub(crate) fn at(now: DateTime<Utc>, task_id: String, status: TaskState, result: Value) -> Self {
        let date_done = status.is_ready().then_some(now);
        Self {
            task_id,
            status,
            result,
            traceback: None,
            children: Some(Vec::new()),
            date_done,
            group_id: None,
            parent_id: None,
            extended: Map::new(),
        }
    }
}

/// One finished member of a chord's header.
#[derive(Clone, Debug, PartialEq)]
pub struct ChordPart {
    /// The chord's group id.
    pub group_id: String,
    /// The member's task id.
    pub task_id: String,
    /// The member's position.
    pub group_index: Option<i64>,
    /// The member's state.
    pub state: TaskState,
    /// The member's result or exception object, in its wire form.
    pub result: Value,
    /// The chord's body, applied with all results once every part is in; `None` if the member's message could not be
    /// read, so that only other members can tell.
    pub body: Option<crate::message::Signature>,
}
