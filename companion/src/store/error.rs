use std::{path::PathBuf, sync::Arc, time::Duration};

use super::DatabaseFault;

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The server does not answer, or SQLite stayed locked; it may later.
    #[error("the database is not available: {0}")]
    Unavailable(sqlx::Error),
    /// The database refused a statement, or its answer could not be read.
    #[error(
        "the database refused a statement: {0}\nhint: run `companion migrate` if tables or columns are missing"
    )]
    Statement(sqlx::Error),
    /// The server cannot be connected to.
    #[error("postgresql://{host}:{port}/{database}: {fault}{}", hint(fault))]
    Connect {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
        /// The database.
        database: String,
        /// Why not.
        fault: DatabaseFault,
    },
    /// Somebody holds what a migration needs.
    #[error(
        "gave up after {waited:?}: {what} does not end\nhint: `SELECT pid, query FROM pg_stat_activity WHERE state <> 'idle'` shows who holds it"
    )]
    Busy {
        /// Who does.
        what: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// This release has no such revision.
    #[error("there is no revision {name:?}; expected head, base, or one of {}", all.join(", "))]
    NoRevision {
        /// What was asked for.
        name: String,
        /// Those that there are.
        all: Vec<&'static str>,
    },
    /// The folder of the SQLite file cannot be made.
    #[error("cannot make the folder {} for the database: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What several calls did together failed.
    #[error(transparent)]
    Shared(Arc<StoreError>),
    /// The part of this process that writes for many has ended.
    #[error("the service is stopping")]
    Stopped,
}

fn hint(fault: &DatabaseFault) -> &'static str {
    match fault {
        DatabaseFault::Password => "\nhint: the password stands in DATABASE_URL or POSTGRES_PASSWORD",
        DatabaseFault::User => {
            "\nhint: the user stands in DATABASE_URL or POSTGRES_USER; pg_hba.conf says who may connect"
        }
        DatabaseFault::NoDatabase => "\nhint: make it with `createdb`, or correct DATABASE_URL",
        DatabaseFault::Refused | DatabaseFault::Silent(_) | DatabaseFault::Unreachable(_) => {
            "\nhint: does the server run, and is DATABASE_URL right?"
        }
        _ => "",
    }
}

impl StoreError {
    /// Whether the same call may work later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Connect { .. } | Self::Busy { .. } | Self::Stopped => true,
            Self::Shared(error) => error.is_retryable(),
            Self::Statement(_) | Self::NoRevision { .. } | Self::Folder { .. } => false,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_transient(&error) { Self::Unavailable(error) } else { Self::Statement(error) }
    }
}

/// PostgreSQL: connection lost (08), serialization or deadlock (40), out of resources (53), a statement that took too long
/// (57014), a lock that was not free (55P03), shutting down or starting (57P); SQLite: busy (5), locked (6) and cannot open (14) with their extended codes.
fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            let postgres = code.len() == 5
                && ["08", "40", "53", "55P03", "57014", "57P"].iter().any(|class| code.starts_with(class));
            let sqlite = code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 14));
            postgres || (code.len() < 5 && sqlite)
        }),
        _ => false,
    }
}
