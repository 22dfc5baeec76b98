//! Result backends: where states and results are kept.

mod codec;
mod encoding;
mod meta;
pub mod redis;

pub use meta::{ChordPart, ExceptionInfo, ResultRef, TaskMeta, TaskState};
