//! Chords: a worker claims a complete one, joins its results, and sends its body or fails it.

mod claim;
mod complete;
mod fail;
mod join;
mod recover;
mod renew;

pub(super) use claim::Claim;
pub(super) use recover::recover;
pub(super) use renew::renew;
