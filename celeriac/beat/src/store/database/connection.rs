//! The one connection of a beat to the database: with it ends the lock, so that who lost it writes nothing any more.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Row};

use super::super::StoreError;

/// The key of the advisory lock: the first letters of "celeriac beat", as a number.
const LOCK: &str = "7162239017482019429";

/// How long the database may take for a statement, and to connect.
const PATIENCE: Duration = Duration::from_secs(5);

/// The values of a row, as texts.
pub(super) type Texts = Vec<Option<String>>;

pub(super) struct Connection {
    place: Place,
    open: Option<Open>,
    /// The lock of a beat on SQLite.
    file: Option<File>,
    has_lock: bool,
}

enum Place {
    Postgres(Box<PgConnectOptions>),
    Sqlite(Box<SqliteConnectOptions>, PathBuf),
}

enum Open {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Connection {
    pub(super) fn new(url: &str) -> Result<Self, StoreError> {
        let wrong = |error: sqlx::Error| StoreError::Database(format!("the URL cannot be used: {error}"));
        let place = if url.starts_with("postgres") {
            // SQLAlchemy and Django name their drivers.
            let rest = url.split_once("://").map_or("", |(_, rest)| rest);
            let options: PgConnectOptions = format!("postgresql://{rest}").parse().map_err(wrong)?;
            Place::Postgres(Box::new(options))
        } else if url.starts_with("sqlite:") {
            let options: SqliteConnectOptions = url.parse().map_err(wrong)?;
            let path = options.get_filename().to_owned();
            Place::Sqlite(Box::new(options.busy_timeout(PATIENCE)), path)
        } else {
            return Err(StoreError::Database("expected postgresql://... or sqlite://FILE".to_owned()));
        };
        Ok(Self { place, open: None, file: None, has_lock: false })
    }

    pub(super) fn is_postgres(&self) -> bool {
        matches!(self.place, Place::Postgres(_))
    }

    pub(super) fn place(&self) -> String {
        match &self.place {
            Place::Postgres(options) => {
                format!("postgresql at {}:{}", options.get_host(), options.get_port())
            }
            Place::Sqlite(_, path) => format!("sqlite at {}", path.display()),
        }
    }

    pub(super) fn has_lock(&self) -> bool {
        self.has_lock && self.open.is_some()
    }

    /// Takes the lock, or makes sure that it is still held.
    pub(super) async fn take_lock(&mut self) -> Result<bool, StoreError> {
        if let Place::Sqlite(_, path) = &self.place {
            if self.file.is_none() {
                let path = PathBuf::from(format!("{}.beat.lock", path.display()));
                let failed = |reason| StoreError::File { path: path.clone(), reason };
                let file = OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(&path)
                    .map_err(failed)?;
                match file.try_lock() {
                    Ok(()) => self.file = Some(file),
                    Err(TryLockError::WouldBlock) => return Ok(false),
                    Err(TryLockError::Error(reason)) => return Err(failed(reason)),
                }
            }
            self.rows("SELECT 1", &[]).await?;
            self.has_lock = true;
            return Ok(true);
        }
        if self.has_lock() {
            self.rows("SELECT '1'", &[]).await?;
            return Ok(true);
        }
        let sql = format!("SELECT CAST(pg_try_advisory_lock({LOCK}) AS TEXT)");
        let rows = self.rows(&sql, &[]).await?;
        self.has_lock = rows.first().and_then(|row| row[0].as_deref()) == Some("true");
        Ok(self.has_lock)
    }

    /// When Django last changed an entry.
    pub(super) async fn last_update(&mut self) -> Result<Option<String>, StoreError> {
        let rows =
            self.rows("SELECT CAST(last_update AS TEXT) FROM django_celery_beat_periodictasks", &[]).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }

    /// The rows of a query whose columns are all texts.
    pub(super) async fn rows(&mut self, sql: &str, values: &[&str]) -> Result<Vec<Texts>, StoreError> {
        let outcome = tokio::time::timeout(PATIENCE, self.try_rows(sql, values)).await;
        self.judge(outcome)
    }

    /// Carries a statement out, and returns how many rows it changed.
    pub(super) async fn execute(&mut self, sql: &str, values: &[&str]) -> Result<u64, StoreError> {
        let outcome = tokio::time::timeout(PATIENCE, self.try_execute(sql, values)).await;
        self.judge(outcome)
    }

    pub(super) async fn close(&mut self) {
        self.has_lock = false;
        self.file = None;
        match self.open.take() {
            Some(Open::Postgres(connection)) => drop(connection.close().await),
            Some(Open::Sqlite(connection)) => drop(connection.close().await),
            None => {}
        }
    }

    /// After a failure the connection is made anew: whether the lock is still held is unknown.
    fn judge<T>(
        &mut self,
        outcome: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, StoreError> {
        let error = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        self.open = None;
        self.has_lock = false;
        Err(StoreError::Database(error))
    }

    async fn connected(&mut self) -> Result<&mut Open, sqlx::Error> {
        if self.open.is_none() {
            self.open = Some(match &self.place {
                Place::Postgres(options) => Open::Postgres(options.connect().await?),
                Place::Sqlite(options, _) => Open::Sqlite(options.connect().await?),
            });
        }
        self.open.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    async fn try_rows(&mut self, sql: &str, values: &[&str]) -> Result<Vec<Texts>, sqlx::Error> {
        // The statements of this folder, with values bound.
        let sql = AssertSqlSafe(sql.to_owned());
        match self.connected().await? {
            Open::Postgres(connection) => {
                let query = values.iter().fold(sqlx::query(sql), |query, value| query.bind(*value));
                let rows: Vec<PgRow> = query.fetch_all(connection).await?;
                rows.iter().map(|row| (0..row.len()).map(|column| row.try_get(column)).collect()).collect()
            }
            Open::Sqlite(connection) => {
                let query = values.iter().fold(sqlx::query(sql), |query, value| query.bind(*value));
                let rows: Vec<SqliteRow> = query.fetch_all(connection).await?;
                let text = |row: &SqliteRow, column| row.try_get_unchecked::<Option<String>, _>(column);
                rows.iter().map(|row| (0..row.len()).map(|column| text(row, column)).collect()).collect()
            }
        }
    }

    async fn try_execute(&mut self, sql: &str, values: &[&str]) -> Result<u64, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.connected().await? {
            Open::Postgres(connection) => {
                let query = values.iter().fold(sqlx::query(sql), |query, value| query.bind(*value));
                Ok(query.execute(connection).await?.rows_affected())
            }
            Open::Sqlite(connection) => {
                let query = values.iter().fold(sqlx::query(sql), |query, value| query.bind(*value));
                Ok(query.execute(connection).await?.rows_affected())
            }
        }
    }
}
