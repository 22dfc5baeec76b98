//! Where beat remembers its entries and their last runs, and which of several beats is the one that sends.

mod file;
mod moment;
mod redis;

use std::path::PathBuf;
use std::time::Duration;

use celeriac::broker::BrokerError;
use chrono::{DateTime, Utc};

pub use self::file::FileStore;
pub use self::redis::{RedisOptions, RedisStore};
use crate::entry::{Entry, Run};
use crate::schedule::Terms;

/// Whether this beat sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds the lock, or there is none.
    Leader,
    /// Another beat holds the lock.
    StandBy,
}

/// What became of a run that was to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is recorded: it has to be sent.
    Recorded,
    /// Another beat holds the lock now: it must not be sent.
    NotLeader,
    /// The entry was deleted meanwhile: it must not be sent.
    Gone,
}

/// What is to be looked at now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// Entries that may be due.
    pub entries: Vec<Entry>,
    /// When the next entry is to be looked at, if that is within the horizon.
    pub next: Option<DateTime<Utc>>,
}

/// Remembers entries over restarts, and elects the beat that sends.
///
/// A run is [recorded](ScheduleStore::record) before it is sent and [struck off](ScheduleStore::sent) after it; one that
/// was recorded but not sent, because the broker or beat itself went away, is [pending](ScheduleStore::pending).
pub trait ScheduleStore: Send {
    /// Takes the lock, or keeps it: to be called at least every [`ScheduleStore::heartbeat`].
    ///
    /// # Errors
    /// When the store cannot be reached; whether this beat leads is unknown then.
    fn lead(&mut self) -> impl Future<Output = Result<Standing, StoreError>> + Send;

    /// The longest time between two calls of [`ScheduleStore::lead`].
    fn heartbeat(&self) -> Duration;

    /// Puts the configured entries into the store, with the last runs that it remembers (a new one counts as run now);
    /// earlier configured entries that are no longer there are forgotten.
    ///
    /// # Errors
    /// When the store cannot be read or written, or cannot hold an entry.
    fn open(
        &mut self,
        configured: &[Entry],
        now: DateTime<Utc>,
        terms: &Terms,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The entries to be looked at now, and when the next one is within `horizon`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn look(
        &mut self,
        now: DateTime<Utc>,
        horizon: Duration,
    ) -> impl Future<Output = Result<Look, StoreError>> + Send;

    /// Says when an entry is to be looked at again.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn reschedule(
        &mut self,
        entry: &Entry,
        next: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Records a run, the entry's new last run, and when the entry is to be looked at next: all or nothing, and only
    /// while this beat leads.
    ///
    /// # Errors
    /// When the store cannot be written; whether the run is recorded is unknown then.
    fn record(
        &mut self,
        entry: &Entry,
        next: DateTime<Utc>,
        run: &Run,
    ) -> impl Future<Output = Result<Recorded, StoreError>> + Send;

    /// Runs that were recorded but not struck off; one for each entry at most.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn pending(&mut self) -> impl Future<Output = Result<Vec<Run>, StoreError>> + Send;

    /// Strikes off a run that was sent.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn sent(&mut self, run: &Run) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives the lock back, if this beat holds it.
    ///
    /// # Errors
    /// When the store cannot be reached; the lock then ends by itself.
    fn release(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A store that does not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file cannot be read or written.
    #[error("schedule file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Redis does not answer as it should.
    #[error("schedule in redis: {0}")]
    Redis(#[from] BrokerError),
    /// What stands in Redis is of another kind than RedBeat's layout has there.
    #[error(
        "schedule in redis: {0}\nhint: look at the keys under its prefix; something else has written there"
    )]
    Layout(#[from] ::redis::ParsingError),
    /// RedBeat's layout has no form for the schedule of an entry.
    #[error(
        "entry {entry:?}: a solar schedule cannot be kept in RedBeat's layout\nhint: keep the schedule in a file (--schedule FILE)"
    )]
    Unstorable {
        /// Name of the entry.
        entry: String,
    },
}

impl StoreError {
    /// Whether the same call may work later.
    pub fn is_retryable(&self) -> bool {
        match self {
            StoreError::File { .. } | StoreError::Unstorable { .. } | StoreError::Layout(_) => false,
            StoreError::Redis(source) => source.is_retryable(),
        }
    }
}
