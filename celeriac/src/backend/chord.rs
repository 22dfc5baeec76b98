//! Questions about chords to a result backend, and its answers.

use std::time::Duration;

use super::any::{Kind, of_each_kind};
use super::{Backend, BackendError, ResultRef, TaskMeta, TaskState};
use crate::message::Value;

/// The certainty that a part was not counted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Nobody else can have run it.
    Fresh,
    /// Its message was held for so long that it may have been taken over meanwhile, as from a worker that stood still.
    Stale,
    /// Its message was delivered before.
    Redelivered,
}

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

/// Chords.
impl Backend {
    /// Returns the parts of a chord that have returned, in the order of its header.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`], [`BackendError::Refused`], and [`BackendError::Unreadable`] when
    /// a part cannot be read.
    pub(crate) async fn returned_parts(&self, group_id: &str) -> Result<Vec<Returned>, BackendError> {
        of_each_kind!(self, backend => backend.returned_parts(group_id).await)
    }

    /// Keeps a claim for longer; `false` when another worker has it now.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`] and [`BackendError::Refused`].
    pub(crate) async fn extend_claim(&self, group_id: &str, token: &str) -> Result<bool, BackendError> {
        of_each_kind!(self, backend => backend.extend_claim(group_id, token).await)
    }

    /// Returns the registered chords whose claim has ended, or of whose size nothing was heard.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`] and [`BackendError::Refused`].
    pub(crate) async fn overdue_chords(&self) -> Result<Vec<String>, BackendError> {
        of_each_kind!(self, backend => backend.overdue_chords().await)
    }

    /// Lets a registered chord be overdue only later.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`] and [`BackendError::Refused`].
    pub(crate) async fn put_off_chord(&self, group_id: &str) -> Result<(), BackendError> {
        of_each_kind!(self, backend => backend.put_off_chord(group_id).await)
    }

    /// Returns how many chords are registered: only a celeriac worker goes on with them.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`] and [`BackendError::Refused`].
    pub(crate) async fn unsent_chords(&self) -> Result<u64, BackendError> {
        of_each_kind!(self, backend => backend.unsent_chords().await)
    }

    /// Claims an overdue chord and returns what is known of it; `None` when another worker is at it, or nothing is left
    /// to do.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`] and [`BackendError::Refused`].
    pub(crate) async fn reclaim_chord(
        &self,
        group_id: &str,
        token: &str,
    ) -> Result<Option<Reclaimed>, BackendError> {
        of_each_kind!(self, backend => backend.reclaim_chord(group_id, token).await)
    }

    /// Returns how often the counters of chords are to be renewed while parts run; `None` when they do not expire.
    pub(crate) fn renewal(&self) -> Option<Duration> {
        of_each_kind!(self, backend => backend.renewal())
    }

    /// Keeps the counters of these chords from expiring, as far as there are any.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`] and [`BackendError::Refused`].
    pub(crate) async fn renew_chords(&self, group_ids: &[String]) -> Result<(), BackendError> {
        of_each_kind!(self, backend => backend.renew_chords(group_ids).await)
    }

    /// Returns how long a missing result of a chord's part is waited for.
    pub(crate) fn join_timeout(&self) -> Duration {
        of_each_kind!(self, backend => backend.join_timeout())
    }
}
