//! Where beat remembers its entries and their last runs, and which of several beats is the one that sends.

#[cfg(feature = "database")]
mod database;
mod error;
mod file;
mod moment;
mod redis;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

#[cfg(feature = "database")]
pub use self::database::DatabaseStore;
pub use self::error::StoreError;
pub use self::file::FileStore;
pub(crate) use self::redis::send_once;
pub use self::redis::{RedisOptions, RedisStore};
use crate::configured::Configured;
use crate::entry::{Entry, History, Run};
use crate::publish::PublishError;
use crate::schedule::Terms;

/// The part of this beat: it sends, or stands by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds the lock and held it before, so the store is as it left it.
    Leader,
    /// It has just got the lock: it has to open the store.
    Elected,
    /// Another beat holds the lock; it may be free after that time.
    StandBy(Duration),
}

/// An entry as the store has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The entry with its last run.
    pub entry: Entry,
    /// Its history.
    pub history: History,
}

/// The entries to be looked at now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// Entries that may be due.
    pub entries: Vec<Found>,
    /// The time at which the next entry is to be looked at, if that is within the horizon.
    pub next: Option<DateTime<Utc>>,
    /// Tells that there are more entries to be looked at now.
    pub has_more: bool,
}

/// The record to be written of an entry that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The entry with its new last run.
    pub entry: Entry,
    /// Its new history.
    pub history: History,
    /// The runs that are to be sent.
    pub runs: Vec<Run>,
    /// The time at which it is to be looked at next; `None` when it never runs again.
    pub next: Option<DateTime<Utc>>,
}

/// The outcome of a [`Change`].
#[derive(Debug)]
pub enum Settled {
    /// It is written, and its runs are sent where the store sends; else they have to be sent now.
    Done,
    /// Another beat holds the lock now: nothing is written, nothing must be sent.
    NotLeader,
    /// The entry was deleted meanwhile: nothing is written, nothing must be sent.
    Gone,
    /// A run cannot be sent: nothing is written.
    Refused(PublishError),
}

/// An entry as operators see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The entry with its last run.
    pub entry: Entry,
    /// Its history.
    pub history: History,
    /// The time at which it is looked at next.
    pub next: Option<DateTime<Utc>>,
}

impl Listed {
    /// The entry as JSON: its definition, and what is known of its runs.
    pub fn to_json(&self) -> Value {
        let Self { entry, history, next } = self;
        let mut value = entry.to_json();
        if let Some(fields) = value.as_object_mut() {
            for (name, value) in [
                ("next_run_at", json!(next.filter(|_| entry.enabled))),
                ("last_run_at", json!(entry.last_run_at)),
                ("total_run_count", json!(entry.total_run_count)),
                ("missed_count", json!(history.missed)),
                ("late_count", json!(history.late)),
                ("skipped_count", json!(history.skipped)),
                ("refused_count", json!(history.refused)),
                ("trouble", json!(history.trouble)),
                ("runs", json!(history.runs)),
            ] {
                fields.insert(name.to_owned(), value);
            }
        }
        value
    }
}

/// Remembers entries over restarts, and elects the beat that sends.
///
/// A store beside the broker's queues [sends](ScheduleStore::sends) a run in the same step in which it records it. Any other
/// one records runs before they are sent and [strikes them off](ScheduleStore::sent) after it; those that were recorded but
/// not sent, because the broker or beat itself went away, are [pending](ScheduleStore::pending).
pub trait ScheduleStore: Send {
    /// Takes the entries that are configured from now on; the next [`ScheduleStore::open`] writes them.
    fn configure(&mut self, configured: Arc<Configured>);

    /// Takes the lock, or keeps it: to be called at least every [`ScheduleStore::heartbeat`].
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached; it is then unknown whether this beat leads.
    fn lead(&mut self, now: DateTime<Utc>) -> impl Future<Output = Result<Standing, StoreError>> + Send;

    /// The longest time between two calls of [`ScheduleStore::lead`].
    fn heartbeat(&self) -> Duration;

    /// Returns whether [`ScheduleStore::settle`] sends the runs.
    fn sends(&self) -> bool {
        false
    }

    /// Puts the configured entries into the store, with the last runs that it remembers (a new one counts as run now);
    /// earlier configured entries that are no longer there are forgotten.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read or written.
    fn open(
        &mut self,
        now: DateTime<Utc>,
        terms: &Terms,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Looks for configured entries that have vanished and for entries that others have edited, and sees to it that they
    /// run; to be called at each heartbeat.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read or written.
    fn check(
        &mut self,
        now: DateTime<Utc>,
        terms: &Terms,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Computes anew when each entry is to be looked at, and takes last runs that lie in the future as runs of now.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read or written.
    fn review(
        &mut self,
        now: DateTime<Utc>,
        terms: &Terms,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The entries to be looked at now, and when the next one is within `horizon`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    fn look(
        &mut self,
        now: DateTime<Utc>,
        horizon: Duration,
    ) -> impl Future<Output = Result<Look, StoreError>> + Send;

    /// Says when entries that are not due are to be looked at again; `None` is never.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    fn reschedule(
        &mut self,
        looks: &[(&Entry, Option<DateTime<Utc>>)],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Writes changes, each of them as a whole or not at all, and only while this beat leads.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written; it is then unknown what was.
    fn settle(&mut self, changes: &[Change])
    -> impl Future<Output = Result<Vec<Settled>, StoreError>> + Send;

    /// Runs that were recorded but not struck off.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    fn pending(&mut self) -> impl Future<Output = Result<Vec<Run>, StoreError>> + Send;

    /// Strikes off a run that was sent.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    fn sent(&mut self, run: &Run) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives the lock back, if this beat holds it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached; the lock then ends by itself.
    fn release(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// All entries that the store has, whether this beat leads or not.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    fn list(&mut self) -> impl Future<Output = Result<Vec<Listed>, StoreError>> + Send;

    /// Switches an entry on or off, whether this beat leads or not. Returns whether there is such an entry.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    fn enable(&mut self, name: &str, enabled: bool) -> impl Future<Output = Result<bool, StoreError>> + Send;
}
