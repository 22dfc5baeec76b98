//! Tasks: the registered, named units of work.

mod annotations;
mod arguments;
mod context;
mod declared;
mod definition;
mod error;
mod name;
mod options;
#[doc(hidden)]
pub mod outcome;
mod request;
mod retry;
mod signature;

pub use arguments::{Arguments, check_arity, takes_more_than};
pub use context::{Context, State, States};
pub use definition::{Handler, Parameter, ParameterKind, Task, TaskDefinition};
pub use error::{Failure, TaskError, TaskResult};
#[doc(hidden)]
pub use name::{dotted, dotted_length};
pub use options::{Pool, TaskOptions};
pub use request::Request;
pub use retry::{Retry, Seconds, TaskResultExt};
#[doc(hidden)]
pub use signature::CallBuilder;
pub use signature::TaskSignature;
