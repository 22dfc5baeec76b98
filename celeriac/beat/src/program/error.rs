//! Why beat does not run.

use std::io;
use std::path::PathBuf;

use crate::entry::EntryErrors;
use crate::store::StoreError;

/// Why beat does not run, or a command of it is not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeatError {
    /// A setting or the broker cannot be used.
    #[error("{0}")]
    Settings(String),
    /// A file of entries cannot be read.
    #[error("entries of {}: {reason}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Entries are not valid.
    #[error("{0}")]
    Entries(EntryErrors),
    /// The store does not work.
    #[error("{0}")]
    Store(StoreError),
    /// The keeper of the schedule is none of the known ones.
    #[error(
        "scheduler {0:?} is not known\nhint: redbeat.RedBeatScheduler (Redis), celery.beat:PersistentScheduler (a file), \
         django_celery_beat.schedulers:DatabaseScheduler"
    )]
    Scheduler(String),
    /// The scheduler of a database is asked for without the database.
    #[error(
        "the database is not named\nhint: --database postgresql://... or sqlite://FILE, or BEAT_DATABASE_URL"
    )]
    NoDatabase,
    /// There is no such entry.
    #[error("there is no entry {0:?}; `celeriac beat list` names them")]
    NoEntry(String),
    /// A time on the command line is none.
    #[error("{0:?} is not a time such as 2026-12-24T18:00:00+01:00")]
    Time(String),
    /// A run cannot be sent.
    #[error("{0}")]
    Publish(String),
    /// Another process runs under that pid file.
    #[error("pid file {} belongs to process {pid}, which runs", path.display())]
    Runs {
        /// The pid file.
        path: PathBuf,
        /// Its process.
        pid: u32,
    },
    /// Something of the system does not work.
    #[error("{what}: {reason}")]
    System {
        /// What does not.
        what: String,
        /// Why.
        reason: io::Error,
    },
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(io::Error),
}

impl From<StoreError> for BeatError {
    fn from(error: StoreError) -> Self {
        BeatError::Store(error)
    }
}

impl From<EntryErrors> for BeatError {
    fn from(errors: EntryErrors) -> Self {
        BeatError::Entries(errors)
    }
}

impl From<io::Error> for BeatError {
    fn from(error: io::Error) -> Self {
        BeatError::Output(error)
    }
}

impl BeatError {
    /// The exit status to end with.
    pub fn exit_code(&self) -> u8 {
        match self {
            // EX_CANTCREAT, as Celery's.
            BeatError::Runs { .. } => 73,
            BeatError::Scheduler(_) | BeatError::NoDatabase | BeatError::Time(_) => 2,
            _ => 1,
        }
    }
}
