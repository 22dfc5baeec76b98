//! What a result backend keeps of a task: its state, its result or exception, and the results that it led to.

use chrono::{DateTime, Utc};

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

/// A handle on results, as `children` and saved groups hold it.
///
/// On the wire `[[id, parent], null]` for a task and `[[id, parent], [child, ...]]` for a group
/// (celery 5.7 `celery/result.py` `as_tuple`).
#[derive(Clone, Debug, PartialEq)]
pub struct ResultRef {
    /// Task id or group id.
    pub id: String,
    /// The result that this one follows in a chain.
    pub parent: Option<Box<ResultRef>>,
    /// The members, if this is a group.
    pub children: Option<Vec<ResultRef>>,
}

impl ResultRef {
    /// The result of one task.
    pub fn task(id: impl Into<String>) -> Self {
        Self { id: id.into(), parent: None, children: None }
    }

    /// The results of a group.
    pub fn group(id: impl Into<String>, children: Vec<ResultRef>) -> Self {
        Self { id: id.into(), parent: None, children: Some(children) }
    }

    /// The ids of the task, or of all tasks in the group and its groups, in their order.
    pub(crate) fn tasks(&self) -> Vec<&str> {
        let mut tasks = Vec::new();
        let mut open = vec![self];
        while let Some(result) = open.pop() {
            match &result.children {
                Some(members) => open.extend(members.iter().rev()),
                None => tasks.push(result.id.as_str()),
            }
        }
        tasks
    }

    /// What the tasks of [`ResultRef::tasks`] returned, in the shape of the group: a group in it gives a list of its own.
    pub(crate) fn arrange(&self, values: impl IntoIterator<Item = Value>) -> Value {
        let mut values = values.into_iter();
        let Some(members) = &self.children else { return values.next().unwrap_or_default() };
        let (mut members, mut list) = (members.iter(), Vec::new());
        let mut around = Vec::new();
        loop {
            match members.next() {
                Some(ResultRef { children: Some(inner), .. }) => {
                    around.push((std::mem::replace(&mut members, inner.iter()), std::mem::take(&mut list)));
                }
                Some(_) => list.extend(values.next()),
                None => {
                    let whole = Value::List(std::mem::take(&mut list));
                    let Some(outer) = around.pop() else { return whole };
                    (members, list) = outer;
                    list.push(whole);
                }
            }
        }
    }

    /// The wire form.
    pub fn to_value(&self) -> Value {
        let parent = self.parent.as_ref().map_or(Value::Null, |parent| parent.to_value());
        let children = self
            .children
            .as_ref()
            .map_or(Value::Null, |children| children.iter().map(ResultRef::to_value).collect());
        Value::List(vec![Value::List(vec![Value::Str(self.id.clone()), parent]), children])
    }

    /// Reads the wire form; `None` when the value has another shape.
    pub fn from_value(value: &Value) -> Option<Self> {
        let [head, children] = value.as_list()? else { return None };
        let [id, parent] = head.as_list()? else { return None };
        let parent = match parent {
            Value::Null => None,
            parent => Some(Box::new(Self::from_value(parent)?)),
        };
        let children = match children {
            Value::Null => None,
            children => Some(children.as_list()?.iter().map(Self::from_value).collect::<Option<Vec<_>>>()?),
        };
        Some(Self { id: id.as_str()?.to_owned(), parent, children })
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
        let date_done = status.is_ready().then(Utc::now);
        Self {
            task_id: task_id.into(),
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
    /// The chord's body, applied with all results once every part is in.
    pub body: crate::message::Signature,
}
