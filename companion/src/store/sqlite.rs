//! How an SQLite file is opened: a write-ahead log, and patience with other processes.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::{
    SqliteConnection, SqlitePool,
    error::DatabaseError,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
};

const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const BUSY_RETRY: Duration = Duration::from_millis(5);

pub(super) fn open(path: &Path, connections: u32) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .synchronous(SqliteSynchronous::Normal)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT);
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        .after_connect(|connection, _| Box::pin(write_ahead(connection)))
        .connect_lazy_with(options)
}

/// Has the file written through a write-ahead log, so that readers and the writer do not wait for each other.
///
/// Of several that change a new file at once SQLite refuses all but one, whatever their busy timeout: the change begins
/// as a read, and [a read that becomes a write does not wait](https://sqlite.org/c3ref/busy_handler.html).
async fn write_ahead(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match sqlx::query("PRAGMA journal_mode = WAL").execute(&mut *connection).await {
            Err(sqlx::Error::Database(error)) if is_busy(&*error) && Instant::now() < deadline => {
                tokio::time::sleep(BUSY_RETRY).await;
            }
            result => return result.map(drop),
        }
    }
}

/// Whether SQLite says SQLITE_BUSY (5) or one of the extended codes of it.
fn is_busy(error: &dyn DatabaseError) -> bool {
    error.code().and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| code & 0xff == 5)
}
