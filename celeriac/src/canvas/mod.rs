//! Canvas: chains, groups, chords. What applying a signature sends, and what the end of a task must send next.
//!
//! No input or output happens here: everything goes into an [`Outbox`], which a client publishes and a worker commits
//! at once with the result of the task.
//!
//! Source: celery 5.7 `celery/canvas.py`, `celery/app/trace.py`, `celery/app/task.py`, `celery/backends/base.py`.

mod apply;
mod build;
mod builtins;
mod chords;
mod completion;
mod ending;
mod error;
mod failure;
mod freeze;
mod link;
mod node;
mod options;
mod outcome;
mod replace;
mod retry;
mod routing;
mod send;
mod sender;
mod stamp;
mod waiting;

pub use apply::{apply, freeze};
pub use build::{chain, chord, chunks, group, map, starmap};
pub use builtins::{accumulate, map_calls, starmap_calls};
pub(crate) use chords::waiting_chords;
pub(crate) use completion::is_followed;
pub use completion::{chord_part, chord_ready, on_success, unread_part};
pub use ending::Ending;
pub use error::CanvasError;
pub use failure::{
    BodyErrback, ErrbackStyle, Errbacks, chord_error, dependency_error, join_error, never_completes,
};
pub(crate) use options::sending_options;
pub use replace::{add_to_chord, replace};
pub(crate) use retry::retry_in_place;
pub use retry::{RetryError, autoretry, retry};
pub use sender::{Effect, Outbox, Sender, random_id};
