//! Tasks: the registered, named units of work.

mod error;

pub use error::{Failure, Retry, TaskError, TaskResult};
