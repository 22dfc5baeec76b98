//! Brings the schema up to date, beside services that go on working.
//!
//! No lock is waited for longer than [`LOCK_TIMEOUT`], since all that comes later would wait behind the one that waits; what
//! could not be done then is tried again. Indexes are built while others read and write. What a run that was killed left
//! half done, the next one completes: each statement may be repeated.

use std::time::{Duration, Instant};

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Sqlite, SqlitePool, Transaction, postgres::PgConnectOptions,
};

pub(super) use super::migrations::{POSTGRES, SQLITE};
use super::{
    BeginWrite, DatabaseFault, Pool, Store, StoreError,
    migrations::{Index, Migration},
};

/// What a run of the migrator did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The names of the migrations that were applied; empty when the schema was current.
    pub applied: Vec<&'static str>,
    /// Whether the database was left by the Python service (there is a table `alembic_version`).
    pub adopted: bool,
}

/// Held by the session that migrates: the ASCII bytes of `companio`.
const ADVISORY_LOCK: i64 = 0x636f_6d70_616e_696f;
/// The longest wait for a lock on a table.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest time in which locks are tried for again and again.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(500);
/// The longest time in which a server that refuses connections, or starts, is waited for.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

pub(super) const APPLIED_TABLE: &str = "CREATE TABLE IF NOT EXISTS companion_migrations \
    (name varchar(64) PRIMARY KEY, applied_at varchar(64) NOT NULL)";
pub(super) const APPLIED: &str = "SELECT name FROM companion_migrations ORDER BY name";
pub(super) const RECORD: &str =
    "INSERT INTO companion_migrations (name, applied_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
const IS_ADOPTED: &str = "SELECT to_regclass('alembic_version') IS NOT NULL";
/// An index that a killed run left half built.
const IS_INVALID: &str =
    "SELECT EXISTS (SELECT 1 FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid)";

impl Store {
    /// Brings the schema up to date.
    ///
    /// Migrations only add, so a database of the Python service is adopted as it is, and the previous release goes on
    /// running on the newer schema. Migrations recorded by a later release are left alone. Two processes may migrate
    /// at once: one waits and then finds nothing to do.
    ///
    /// # Errors
    /// [`StoreError::Connect`] when the database cannot be reached, [`StoreError::Busy`] when another transaction keeps a
    /// lock for minutes, [`StoreError::Statement`] when the database refuses a change. What was done by then stays; another
    /// run goes on from there.
    pub async fn migrate(&self) -> Result<Migrated, StoreError> {
        match &self.pool {
            Pool::Postgres(link) => {
                let mut session = connect(&link.options).await?;
                let migrated = migrate_postgres(&mut session).await?;
                session.close().await?;
                Ok(migrated)
            }
            Pool::Sqlite(pool) => {
                let mut tx = pool.begin_write().await?;
                let migrated = migrate_sqlite(&mut tx).await?;
                tx.commit().await?;
                Ok(migrated)
            }
        }
    }
}

/// A session of its own, without the limits on time that the service's have.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let started = Instant::now();
    loop {
        let left = CONNECT_PATIENCE.saturating_sub(started.elapsed()).max(PAUSE);
        let fault = match tokio::time::timeout(left, PgConnection::connect_with(options)).await {
            Ok(Ok(session)) => return Ok(session),
            Ok(Err(error)) => DatabaseFault::of(&error),
            Err(_) => DatabaseFault::Silent(CONNECT_PATIENCE),
        };
        let passes = matches!(fault, DatabaseFault::Refused | DatabaseFault::Starting | DatabaseFault::Full);
        if !passes || started.elapsed() >= CONNECT_PATIENCE {
            let (host, port) = (options.get_host().to_owned(), options.get_port());
            let database = options.get_database().unwrap_or_default().to_owned();
            return Err(StoreError::Connect { host, port, database, fault });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn migrate_postgres(session: &mut PgConnection) -> Result<Migrated, StoreError> {
    alone(session).await?;
    let adopted = sqlx::query_scalar(IS_ADOPTED).fetch_one(&mut *session).await?;
    changed(session, "companion_migrations", &[APPLIED_TABLE]).await?;
    let done: Vec<String> = sqlx::query_scalar(APPLIED).fetch_all(&mut *session).await?;
    let mut applied = Vec::new();
    for migration in missing(POSTGRES, &done) {
        changed(session, migration.name, &[migration.sql]).await?;
        for index in migration.indexes {
            build(session, index).await?;
        }
        sqlx::query(RECORD).bind(migration.name).bind(recorded_at()).execute(&mut *session).await?;
        applied.push(migration.name);
    }
    Ok(Migrated { applied, adopted })
}

/// Waits until no other process migrates. By asking again and again, since a session that waits within a statement would
/// in turn be waited for by the one that builds an index.
pub(super) async fn alone(session: &mut PgConnection) -> Result<(), StoreError> {
    let started = Instant::now();
    loop {
        let ask = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(ADVISORY_LOCK);
        if ask.fetch_one(&mut *session).await? {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err(StoreError::Busy { what: "another migration".to_owned(), waited: PATIENCE });
        }
        tokio::time::sleep(PAUSE / 5).await;
    }
}

/// Carries quick statements out, all or none, as soon as the locks that they need are free.
async fn changed(session: &mut PgConnection, name: &str, statements: &[&str]) -> Result<(), StoreError> {
    let sql = format!(
        "BEGIN; SET LOCAL lock_timeout = {}; {}; COMMIT",
        LOCK_TIMEOUT.as_millis(),
        statements.join("; ")
    );
    repeated(session, name, &sql).await
}

/// Builds an index beside whoever reads and writes.
async fn build(session: &mut PgConnection, index: &Index) -> Result<(), StoreError> {
    let Index { name, on } = index;
    if sqlx::query_scalar(IS_INVALID).bind(*name).fetch_one(&mut *session).await? {
        repeated(session, name, &format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await?;
    }
    // It waits for transactions that began before, without keeping anybody from reading or writing.
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {on}")))
        .execute(&mut *session)
        .await?;
    Ok(())
}

/// Tries a statement until its locks are free.
async fn repeated(session: &mut PgConnection, name: &str, sql: &str) -> Result<(), StoreError> {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    const DEADLOCK: &str = "40P01";
    let started = Instant::now();
    let mut waits = false;
    loop {
        let error = match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *session).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        sqlx::raw_sql("ROLLBACK").execute(&mut *session).await?;
        let code = error.as_database_error().and_then(|error| error.code());
        if !matches!(code.as_deref(), Some(LOCK_NOT_AVAILABLE | DEADLOCK)) {
            return Err(error.into());
        }
        if started.elapsed() > PATIENCE {
            return Err(StoreError::Busy {
                what: format!("a transaction that {name} waits for"),
                waited: PATIENCE,
            });
        }
        if !std::mem::replace(&mut waits, true) {
            log::warn!(migration = name; "The migration {name} waits for a transaction that holds a table; it tries again for {PATIENCE:?}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn migrate_sqlite(tx: &mut Transaction<'static, Sqlite>) -> Result<Migrated, sqlx::Error> {
    sqlx::raw_sql(APPLIED_TABLE).execute(&mut **tx).await?;
    let done: Vec<String> = sqlx::query_scalar(APPLIED).fetch_all(&mut **tx).await?;
    let mut applied = Vec::new();
    for migration in missing(SQLITE, &done) {
        sqlx::raw_sql(AssertSqlSafe(migration.sql)).execute(&mut **tx).await?;
        sqlx::query(RECORD).bind(migration.name).bind(recorded_at()).execute(&mut **tx).await?;
        applied.push(migration.name);
    }
    Ok(Migrated { applied, adopted: false })
}

/// Returns the migrations that a server records; none where there is no record.
pub(super) async fn recorded(session: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    const UNDEFINED_TABLE: &str = "42P01";
    match sqlx::query_scalar(APPLIED).fetch_all(session).await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE) => {
            Ok(Vec::new())
        }
        recorded => recorded,
    }
}

/// Returns the migrations that a file records; none where there is no record.
pub(super) async fn recorded_in_file(pool: &SqlitePool) -> Result<Vec<String>, sqlx::Error> {
    const HAS_RECORD: &str = "SELECT EXISTS \
        (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'companion_migrations')";
    if sqlx::query_scalar(HAS_RECORD).fetch_one(pool).await? {
        return sqlx::query_scalar(APPLIED).fetch_all(pool).await;
    }
    Ok(Vec::new())
}

pub(super) fn recorded_at() -> String {
    chrono::Utc::now().to_rfc3339()
}

pub(super) fn missing<'a>(all: &'a [Migration], done: &'a [String]) -> impl Iterator<Item = &'a Migration> {
    all.iter().filter(|migration| !done.iter().any(|name| name == migration.name))
}
