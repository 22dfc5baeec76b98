//! Result backends: where states and results are kept.

mod meta;

pub use meta::{ChordPart, ExceptionInfo, ResultRef, TaskMeta, TaskState};
