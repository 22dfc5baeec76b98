//! Result backends: where states and results are kept.

mod codec;
mod encoding;
mod meta;
pub mod redis;
mod result_ref;

pub use meta::{ChordPart, ExceptionInfo, TaskMeta, TaskState};
pub use result_ref::ResultRef;
