//! Answers of a result backend about chords and about tasks that are waited for.

use super::{ResultRef, TaskMeta, TaskState};
use crate::message::Value;

/// The answer to a part that was returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartAnswer {
    /// Whether this part completed the chord and its sender is to go on with the body.
    pub(crate) claimed: bool,
    /// Whether the number of the chord's parts is known.
    pub(crate) has_size: bool,
    /// The part from which to go on, if the one that returned does not know the chord's body.
    pub(crate) completing: Vec<u8>,
}

impl PartAnswer {
    /// The answer of a server that cannot be read.
    pub(crate) const UNKNOWN: Self = Self { claimed: false, has_size: true, completing: Vec::new() };
}

/// A part that has returned.
#[derive(Debug, PartialEq)]
pub(crate) struct Returned {
    pub(crate) task_id: String,
    pub(crate) state: TaskState,
    /// Its return value, or its exception.
    pub(crate) result: Value,
}

/// A registered chord that was claimed to go on with it.
#[derive(Debug, PartialEq)]
pub(crate) struct Reclaimed {
    /// The part from which to go on, as [`Backend::returning`](super::Backend::returning) was given it; nothing if none could be read.
    pub(crate) completing: Vec<u8>,
    /// Whether the number of its parts is not stored any more: it will never be complete.
    pub(crate) is_gone: bool,
}

/// The outcome of waiting for some tasks.
#[derive(Debug)]
pub(crate) enum Awaited {
    /// All succeeded: their records, in the order in which they were asked for.
    Ready(Vec<TaskMeta>),
    /// One failed or was revoked, however many others are missing: its record.
    Failed(Box<TaskMeta>),
    /// One is not ready in time: its place among those asked for.
    Missing(usize),
}

/// A change of what is kept of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GroupChange {
    /// A chord waits for so many parts.
    Size {
        /// The chord's group id.
        group_id: String,
        /// Number of parts.
        size: usize,
    },
    /// A running chord waits for more parts.
    Grow {
        /// The chord's group id.
        group_id: String,
        /// Number of further parts.
        by: usize,
    },
    /// A chord has failed.
    Failed {
        /// The chord's group id.
        group_id: String,
    },
    /// The shape of a group's results is kept.
    Save(ResultRef),
}
