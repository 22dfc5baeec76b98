//! Tasks: the registered, named units of work.

mod context;
mod definition;
mod error;
mod options;
mod request;

pub use context::{Context, State, States};
pub use definition::{Handler, Parameter, ParameterKind, Task, TaskDefinition};
pub use error::{Failure, Retry, TaskError, TaskResult};
pub use options::{Pool, TaskOptions};
pub use request::Request;
