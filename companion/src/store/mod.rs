//! Everything that is kept in the database: PostgreSQL in production, SQLite in the embedded setup.
//!
//! All SQL of the service is in this folder, one short function per statement. Both databases take the same
//! statements (`$1` placeholders, `ON CONFLICT`, `RETURNING`); where they differ, both texts stand side by side.
//! Every insert names every column that must not be null, since an adopted database has no defaults.

mod accounts;
mod error;
mod events;
mod features;
mod migrate;
mod notes;
mod personas;
mod reminders;
mod seed;
mod sqlite;

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction, postgres::PgPoolOptions};

pub use accounts::{ApiKeyRow, User};
pub use error::StoreError;
pub use events::{DailyMetrics, Turn};
pub use features::FeatureFlag;
pub use migrate::Migrated;
pub use notes::{MemoryType, Task};
pub use personas::Persona;
pub use reminders::{
    ChannelDelivery, DueReminder, NewReminder, Reminder, ReminderPart, ReminderStatus, StatusCount,
};
pub use seed::{DEMO_API_KEY, DEMO_EMAIL, Demo, Seeded};

use crate::settings::DatabaseUrl;

/// The database; clones share one pool of connections.
#[derive(Debug, Clone)]
pub struct Store {
    pool: Pool,
}

#[derive(Debug, Clone)]
enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CONNECTIONS: u32 = 10;

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
    /// When the folder of an SQLite file cannot be made.
    pub fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let pool = match url {
            DatabaseUrl::Postgres(options) => Pool::Postgres(
                PgPoolOptions::new()
                    .max_connections(MAX_CONNECTIONS)
                    .acquire_timeout(ACQUIRE_TIMEOUT)
                    .connect_lazy_with(options.as_ref().clone().application_name("ai-companion")),
            ),
            DatabaseUrl::Sqlite(path) => {
                if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                    std::fs::create_dir_all(folder)
                        .map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
                }
                Pool::Sqlite(sqlite::open(path))
            }
        };
        Ok(Self { pool })
    }

    /// Asks the database for an answer.
    ///
    /// # Errors
    /// When there is none within the connection timeout (5 s).
    pub async fn ping(&self) -> Result<(), StoreError> {
        on_pool!(self, pool => sqlx::query("SELECT 1").execute(pool).await.map(drop))?;
        Ok(())
    }

    /// Closes all connections, waiting for statements under way.
    pub async fn close(&self) {
        on_pool!(self, pool => pool.close().await);
    }
}

/// A transaction that may write from its first statement on, which SQLite wants to be told.
trait BeginWrite {
    type Database: sqlx::Database;
    async fn begin_write(&self) -> Result<Transaction<'static, Self::Database>, sqlx::Error>;
}

impl BeginWrite for PgPool {
    type Database = Postgres;
    async fn begin_write(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.begin().await
    }
}

impl BeginWrite for SqlitePool {
    type Database = Sqlite;
    async fn begin_write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.begin_with("BEGIN IMMEDIATE").await
    }
}

/// The time now, with the microseconds that PostgreSQL keeps.
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
