//! Result backends: where states and results are kept.

mod any;
mod attempt;
mod chord;
mod codec;
mod encoding;
mod error;
#[cfg(feature = "testing")]
pub(crate) mod memory;
mod meta;
mod record;
pub mod redis;
mod result_ref;

pub use any::Backend;
pub(crate) use attempt::NotCarriedOut;
pub(crate) use chord::{Awaited, Freshness, GroupChange, PartAnswer, Reclaimed, Returned};
pub use error::BackendError;
pub use meta::{ChordPart, ExceptionInfo, TaskMeta, TaskState};
pub use result_ref::ResultRef;
