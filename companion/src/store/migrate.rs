use sqlx::{AssertSqlSafe, Postgres, Sqlite, Transaction};

use super::{BeginWrite, Pool, Store, StoreError, now};

/// What a run of the migrator did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The names of the migrations that were applied; empty when the schema was current.
    pub applied: Vec<&'static str>,
    /// Whether the database was left by the Python service (there is a table `alembic_version`).
    pub adopted: bool,
}

struct Migration {
    name: &'static str,
    sql: &'static str,
}

macro_rules! migration {
    ($folder:literal, $name:literal) => {
        Migration { name: $name, sql: include_str!(concat!("migrations/", $folder, "_", $name, ".sql")) }
    };
}

const POSTGRES: &[Migration] = &[
    migration!("postgres", "0001_contract"),
    migration!("postgres", "0002_delivery"),
    migration!("postgres", "0003_embedding"),
];
const SQLITE: &[Migration] = &[migration!("sqlite", "0001_contract")];

/// Taken within the migrating transaction: the ASCII bytes of `companio`.
const ADVISORY_LOCK: i64 = 0x636f_6d70_616e_696f;

const APPLIED_TABLE: &str = "CREATE TABLE IF NOT EXISTS companion_migrations \
    (name varchar(64) PRIMARY KEY, applied_at varchar(64) NOT NULL)";
const APPLIED: &str = "SELECT name FROM companion_migrations";
const RECORD: &str = "INSERT INTO companion_migrations (name, applied_at) VALUES ($1, $2)";

impl Store {
    /// Brings the schema up to date, in one transaction.
    ///
    /// Migrations only add, so a database of the Python service is adopted as it is, and the previous release goes on
    /// running on the newer schema. Migrations recorded by a later release are left alone. Two processes may migrate
    /// at once: one waits and then finds nothing to do.
    ///
    /// # Errors
    /// When the database is not available or refuses a change; nothing is changed then.
    pub async fn migrate(&self) -> Result<Migrated, StoreError> {
        match &self.pool {
            Pool::Postgres(pool) => {
                let mut tx = pool.begin_write().await?;
                let migrated = migrate_postgres(&mut tx).await?;
                tx.commit().await?;
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

async fn migrate_postgres(tx: &mut Transaction<'static, Postgres>) -> Result<Migrated, sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(ADVISORY_LOCK).execute(&mut **tx).await?;
    let adopted =
        sqlx::query_scalar("SELECT to_regclass('alembic_version') IS NOT NULL").fetch_one(&mut **tx).await?;
    sqlx::raw_sql(APPLIED_TABLE).execute(&mut **tx).await?;
    let done: Vec<String> = sqlx::query_scalar(APPLIED).fetch_all(&mut **tx).await?;
    let mut applied = Vec::new();
    for migration in missing(POSTGRES, &done) {
        sqlx::raw_sql(AssertSqlSafe(migration.sql)).execute(&mut **tx).await?;
        sqlx::query(RECORD).bind(migration.name).bind(now().to_rfc3339()).execute(&mut **tx).await?;
        applied.push(migration.name);
    }
    Ok(Migrated { applied, adopted })
}

async fn migrate_sqlite(tx: &mut Transaction<'static, Sqlite>) -> Result<Migrated, sqlx::Error> {
    sqlx::raw_sql(APPLIED_TABLE).execute(&mut **tx).await?;
    let done: Vec<String> = sqlx::query_scalar(APPLIED).fetch_all(&mut **tx).await?;
    let mut applied = Vec::new();
    for migration in missing(SQLITE, &done) {
        sqlx::raw_sql(AssertSqlSafe(migration.sql)).execute(&mut **tx).await?;
        sqlx::query(RECORD).bind(migration.name).bind(now().to_rfc3339()).execute(&mut **tx).await?;
        applied.push(migration.name);
    }
    Ok(Migrated { applied, adopted: false })
}

fn missing<'a>(all: &'a [Migration], done: &'a [String]) -> impl Iterator<Item = &'a Migration> {
    all.iter().filter(|migration| !done.iter().any(|name| name == migration.name))
}
