//! What can be wrong with a canvas.

use crate::message::repr::saferepr;
use crate::message::{ProtocolError, Value};

/// Why a signature cannot be applied.
///
/// None of these goes away by trying again.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CanvasError {
    /// A member of a canvas is no signature, or a message cannot be encoded.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The chain has no tasks.
    #[error("the chain has no tasks: there is nothing to apply")]
    EmptyChain,
    /// A link on a group.
    #[error(
        "cannot add {option} to a group\nhint: make it a chord, or add {option} to the tasks of the group"
    )]
    GroupLink {
        /// `link` or `link_error`.
        option: &'static str,
    },
    /// The chord has no body.
    #[error("the chord has no body")]
    NoBody,
    /// The queue is not declared.
    #[error(
        "queue {queue:?} is missing from task_queues\nhint: declare it there, or set task_create_missing_queues"
    )]
    UnknownQueue {
        /// Name of the queue.
        queue: String,
    },
    /// An option has a value that it cannot have.
    #[error("option {option} is {value}, expected {expected}")]
    BadOption {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The task's soft time limit would never be reached; the text is Celery's.
    #[error("soft_time_limit must be less than or equal to time_limit")]
    SoftLimitAboveHard,
    /// A frozen signature occurs twice where its result is awaited.
    #[error("result {id} would follow itself: the same frozen signature is used twice")]
    RecursiveResult {
        /// Id of the result.
        id: String,
    },
    /// The task is in no chord.
    #[error("task {id} is no member of any chord")]
    NotInChord {
        /// Task id.
        id: String,
    },
    /// A signature that is part of a chord is to replace a task; the text is Celery's, as the caller of the task sees it.
    #[error("A signature replacing a task must not be part of a chord")]
    ReplaceInChord,
    /// A chain without tasks is to replace a task; the text is Celery's, as the caller of the task sees it.
    #[error("Cannot replace with an empty chain")]
    ReplaceWithEmptyChain,
}

impl CanvasError {
    pub(super) fn bad_option(option: &'static str, value: &Value, expected: &'static str) -> Self {
        Self::BadOption { option, value: saferepr(value, 120, 2), expected }
    }
}
