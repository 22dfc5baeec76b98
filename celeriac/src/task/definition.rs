//! A task as the registry holds it.

use std::any::TypeId;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use serde::{Deserialize, Serialize};

use super::{Context, Pool, TaskOptions, TaskResult};
use crate::message::Value;
use crate::schema::Describe;

/// Something that defines a task: what `#[celeriac::task]` makes of a function.
pub trait Task {
    /// The task's definition.
    fn definition(&self) -> TaskDefinition;
}

/// A named unit of work: what it is called, how it is to be treated, and the function that does it.
#[derive(Clone)]
#[non_exhaustive]
pub struct TaskDefinition {
    /// Name on the wire.
    pub name: Arc<str>,
    /// What the task declares about itself.
    pub options: TaskOptions,
    /// The parameters that a caller gives; `None` when any arguments are taken.
    pub parameters: Option<&'static [Parameter]>,
    /// Tells the types of the parameters and of what the function returns, when they are known.
    pub describe: Option<Describe>,
    /// The shared state that the function asks for; checked when the worker starts.
    pub states: Vec<(TypeId, &'static str)>,
    /// The function.
    pub handler: Handler,
}

/// One parameter of a task function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Name, as keyword arguments give it.
    pub name: &'static str,
    /// How arguments reach it.
    pub kind: ParameterKind,
}

/// How arguments reach a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterKind {
    /// By position or keyword; must be given.
    Required,
    /// By position or keyword; may be left out.
    Optional,
    /// Takes all further positional arguments, as Python's `*args`.
    VarArgs,
    /// Takes all further keyword arguments, as Python's `**kwargs`.
    VarKwargs,
}

/// The function of a task; its arguments stand in the context's request.
#[derive(Clone)]
#[non_exhaustive]
pub enum Handler {
    /// Runs on the shared threads of the runtime.
    Async(Arc<dyn Fn(Context) -> BoxFuture<'static, TaskResult<Value>> + Send + Sync>),
    /// Blocks its thread while it runs.
    Blocking(Arc<dyn Fn(Context) -> TaskResult<Value> + Send + Sync>),
}

impl Handler {
    /// A handler that runs an async function.
    pub fn from_async<F, R>(function: F) -> Self
    where
        F: Fn(Context) -> R + Send + Sync + 'static,
        R: Future<Output = TaskResult<Value>> + Send + 'static,
    {
        Handler::Async(Arc::new(move |context| Box::pin(function(context))))
    }

    /// A handler that runs a blocking function.
    pub fn from_blocking<F>(function: F) -> Self
    where
        F: Fn(Context) -> TaskResult<Value> + Send + Sync + 'static,
    {
        Handler::Blocking(Arc::new(function))
    }
}

impl TaskDefinition {
    /// A task of that name which runs an async function on whatever arguments it is sent.
    pub fn from_async<F, R>(name: &str, function: F) -> Self
    where
        F: Fn(Context) -> R + Send + Sync + 'static,
        R: Future<Output = TaskResult<Value>> + Send + 'static,
    {
        Self::new(name, TaskOptions::default(), Handler::from_async(function))
    }

    /// A task of that name which runs a blocking function on whatever arguments it is sent.
    pub fn from_blocking<F>(name: &str, function: F) -> Self
    where
        F: Fn(Context) -> TaskResult<Value> + Send + Sync + 'static,
    {
        let options = TaskOptions { pool: Pool::Blocking, ..TaskOptions::default() };
        Self::new(name, options, Handler::from_blocking(function))
    }

    /// A task of that name with those options and that function.
    pub fn new(name: &str, options: TaskOptions, handler: Handler) -> Self {
        Self { name: name.into(), options, parameters: None, describe: None, states: Vec::new(), handler }
    }

    /// The same task with other options.
    pub fn with_options(mut self, change: impl FnOnce(&mut TaskOptions)) -> Self {
        change(&mut self.options);
        self
    }
}

impl Task for TaskDefinition {
    fn definition(&self) -> TaskDefinition {
        self.clone()
    }
}

/// What makes a task is one too: so does the name of a function under `#[celeriac::task]`.
impl<F: Fn() -> T, T: Task> Task for F {
    fn definition(&self) -> TaskDefinition {
        self().definition()
    }
}

impl std::fmt::Debug for TaskDefinition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TaskDefinition").field("name", &self.name).finish_non_exhaustive()
    }
}
