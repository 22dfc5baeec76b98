//! State of a running node that its worker writes and remote control reads: the requests it holds, what it has
//! accepted, and what is revoked.
//!
//! It lies below [`crate::control`] and `crate::worker`, so that remote control needs nothing of the worker's.

mod lock;
mod requests;
mod revoked;
mod state;

pub(crate) use lock::lock;
pub(crate) use requests::{Known, Stage};
pub(crate) use revoked::{KEPT, LIMIT, Revoked};
pub(crate) use state::WorkerState;
