use std::time::Duration;

use sqlx::{PgPool, SqlitePool};
use uuid::Uuid;

use crate::{Outgoing, postgres, sqlite};

/// The database that holds the table.
#[derive(Debug, Clone)]
pub enum Pool {
    /// PostgreSQL.
    Postgres(PgPool),
    /// SQLite.
    Sqlite(SqlitePool),
}

/// The longest that the database may take for one call.
const PATIENCE: Duration = Duration::from_secs(10);

macro_rules! on_pool {
    ($pool:expr, $call:ident ( $($argument:expr),* )) => {
        match $pool {
            Pool::Postgres(pool) => in_time(postgres::$call(pool, $($argument),*)).await,
            Pool::Sqlite(pool) => in_time(async {
                sqlite::$call(&mut *pool.acquire().await?, $($argument),*).await
            })
            .await,
        }
    };
}

impl Pool {
    /// Returns how many messages should have been published by now.
    ///
    /// # Errors
    /// [`sqlx::Error`] when the database fails or does not answer in time.
    pub async fn overdue(&self) -> Result<i64, sqlx::Error> {
        on_pool!(self, overdue())
    }

    pub(crate) async fn take(&self, limit: i64, lease: Duration) -> Result<Vec<Outgoing>, sqlx::Error> {
        on_pool!(self, take(limit, lease))
    }

    pub(crate) async fn published(&self, ids: &[Uuid], republish_after: Duration) -> Result<(), sqlx::Error> {
        on_pool!(self, published(ids, republish_after))
    }

    pub(crate) async fn give_back(&self, ids: &[Uuid], after: Duration) -> Result<(), sqlx::Error> {
        on_pool!(self, give_back(ids, after))
    }

    pub(crate) async fn republish_all(&self) -> Result<u64, sqlx::Error> {
        on_pool!(self, republish_all())
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let silent = |_| {
        let reason = format!("no answer within {PATIENCE:?}");
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, reason)))
    };
    tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(silent)
}
