//! Everything that is kept in the database: PostgreSQL in production, SQLite in the embedded setup.
//!
//! All SQL of the service is in this folder, one short function per statement. Both databases take the same
//! statements (`$1` placeholders, `ON CONFLICT`, `RETURNING`); where they differ, both texts stand side by side.
//! Every insert names every column that must not be null, since an adopted database has no defaults.

mod accounts;
mod clock;
mod counts;
mod deliveries;
mod error;
mod events;
mod failed_jobs;
mod features;
mod health;
mod idempotency;
mod migrate;
mod migrations;
mod notes;
mod outbox;
mod personas;
mod postgres;
mod queue;
mod reminders;
mod revisions;
mod seed;
mod sqlite;
mod uncertain;

use chrono::{DateTime, SubsecRound, Utc};
use sqlx::{Sqlite, SqlitePool, Transaction};

pub use accounts::{ApiKeyRow, User};
pub(crate) use counts::Counts;
pub use counts::Overdue;
pub use deliveries::{Begun, ChannelDelivery, ChannelStatus, Ended, Outcome, Wanted};
pub use error::StoreError;
pub use events::{DailyMetrics, Turn};
pub use failed_jobs::FailedJob;
pub use features::FeatureFlag;
pub use health::DatabaseFault;
pub use idempotency::{Known, Once, OnceKey};
pub use migrate::Migrated;
pub use notes::{MemoryType, Task};
pub use personas::Persona;
pub use reminders::{DueReminder, NewReminder, Reminder, ReminderPart, ReminderStatus, StatusCount};
pub use revisions::Revisions;
pub use seed::{DEMO_API_KEY, DEMO_EMAIL, Demo, Seeded};
pub use uncertain::UncertainDelivery;

use crate::settings::{DatabaseUrl, Settings};

/// The database; clones share one pool of connections.
#[derive(Debug, Clone)]
pub struct Store {
    pool: Pool,
}

#[derive(Debug, Clone)]
enum Pool {
    Postgres(postgres::Link),
    Sqlite(SqlitePool),
}

/// Runs the same statement on whichever database is open.
macro_rules! on_pool {
    ($store:expr, $pool:ident => $body:expr) => {
        match &$store.pool {
            $crate::store::Pool::Postgres($pool) => $body,
            $crate::store::Pool::Sqlite($pool) => $body,
        }
    };
}
use on_pool;

impl Store {
    /// Opens the database without waiting for it: connections are made when needed, so that a service starts and
    /// recovers while the database is away.
    ///
    /// # Errors
    /// [`StoreError::Folder`] when the folder of an SQLite file cannot be made.
    pub fn open(settings: &Settings) -> Result<Self, StoreError> {
        let pool = match &settings.database {
            DatabaseUrl::Postgres(options) => {
                Pool::Postgres(postgres::Link::open(options, &settings.database_pool))
            }
            DatabaseUrl::Sqlite(path) => {
                if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                    std::fs::create_dir_all(folder)
                        .map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
                }
                Pool::Sqlite(sqlite::open(path, settings.database_pool.size))
            }
        };
        Ok(Self { pool })
    }

    /// Closes all connections, waiting for statements under way.
    pub async fn close(&self) {
        on_pool!(self, pool => pool.close().await);
    }
}

/// A transaction that may write from its first statement on, which SQLite wants to be told.
trait BeginWrite {
    type Work;
    async fn begin_write(&self) -> Result<Self::Work, sqlx::Error>;
}

impl BeginWrite for postgres::Link {
    type Work = postgres::Work;
    async fn begin_write(&self) -> Result<postgres::Work, sqlx::Error> {
        postgres::Work::begin(self).await
    }
}

impl BeginWrite for SqlitePool {
    type Work = Transaction<'static, Sqlite>;
    async fn begin_write(&self) -> Result<Self::Work, sqlx::Error> {
        self.begin_with("BEGIN IMMEDIATE").await
    }
}

/// The time now by this host's clock, which is that of an SQLite file as well.
fn host_now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
