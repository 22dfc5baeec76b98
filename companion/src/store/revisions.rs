//! The migrations as those see them who know Alembic: revisions, the head, and which of them the database has.

use sqlx::Connection;

use super::{BeginWrite, Pool, Store, StoreError, migrate, migrations::Migration};

/// The revisions of this release, and where the database stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revisions {
    /// The revisions of this release, in their order.
    pub all: Vec<&'static str>,
    /// The names that the database records, also those of later releases, in their order.
    pub applied: Vec<String>,
    /// The revision of the Python service that the database was adopted from.
    pub adopted_from: Option<String>,
}

impl Revisions {
    /// Returns the last revision of this release.
    pub fn head(&self) -> &'static str {
        self.all.last().copied().unwrap_or_default()
    }

    /// Returns the revisions that the database lacks.
    pub fn missing(&self) -> Vec<&'static str> {
        self.all.iter().copied().filter(|name| !self.applied.iter().any(|applied| applied == name)).collect()
    }
}

const HAS_ALEMBIC: &str = "SELECT to_regclass('alembic_version') IS NOT NULL";
const ALEMBIC: &str = "SELECT version_num FROM alembic_version";
const FORGET: &str = "DELETE FROM companion_migrations WHERE name = $1";

impl Store {
    /// Returns the revisions of this release and those that the database has; changes nothing.
    ///
    /// # Errors
    /// As [`Store::migrate`].
    pub async fn revisions(&self) -> Result<Revisions, StoreError> {
        let (all, applied, adopted_from) = match &self.pool {
            Pool::Postgres(link) => {
                let mut session = migrate::connect(&link.options).await?;
                let applied = migrate::recorded(&mut session).await?;
                let mut adopted_from = None;
                if sqlx::query_scalar(HAS_ALEMBIC).fetch_one(&mut session).await? {
                    adopted_from = sqlx::query_scalar(ALEMBIC).fetch_optional(&mut session).await?;
                }
                session.close().await?;
                (migrate::POSTGRES, applied, adopted_from)
            }
            Pool::Sqlite(pool) => (migrate::SQLITE, migrate::recorded_in_file(pool).await?, None),
        };
        Ok(Revisions { all: names(all), applied, adopted_from })
    }

    /// Records the migrations up to a revision as applied, and those behind it as not, without running any. `None` is
    /// before the first one. Records of later releases stay.
    ///
    /// # Errors
    /// [`StoreError::NoRevision`] when this release has no such revision; else as [`Store::migrate`].
    pub async fn stamp(&self, revision: Option<&str>) -> Result<(), StoreError> {
        let all = match &self.pool {
            Pool::Postgres(_) => migrate::POSTGRES,
            Pool::Sqlite(_) => migrate::SQLITE,
        };
        let count = match revision {
            None => 0,
            Some(name) => {
                1 + all
                    .iter()
                    .position(|migration| migration.name == name)
                    .ok_or_else(|| StoreError::NoRevision { name: name.to_owned(), all: names(all) })?
            }
        };
        let (kept, dropped) = all.split_at(count);
        match &self.pool {
            Pool::Postgres(link) => {
                let mut session = migrate::connect(&link.options).await?;
                migrate::alone(&mut session).await?;
                sqlx::raw_sql(migrate::APPLIED_TABLE).execute(&mut session).await?;
                let mut tx = session.begin().await?;
                for migration in kept {
                    sqlx::query(migrate::RECORD)
                        .bind(migration.name)
                        .bind(migrate::recorded_at())
                        .execute(&mut *tx)
                        .await?;
                }
                for migration in dropped {
                    sqlx::query(FORGET).bind(migration.name).execute(&mut *tx).await?;
                }
                tx.commit().await?;
                session.close().await?;
            }
            Pool::Sqlite(pool) => {
                let mut tx = pool.begin_write().await?;
                sqlx::raw_sql(migrate::APPLIED_TABLE).execute(&mut *tx).await?;
                for migration in kept {
                    sqlx::query(migrate::RECORD)
                        .bind(migration.name)
                        .bind(migrate::recorded_at())
                        .execute(&mut *tx)
                        .await?;
                }
                for migration in dropped {
                    sqlx::query(FORGET).bind(migration.name).execute(&mut *tx).await?;
                }
                tx.commit().await?;
            }
        }
        Ok(())
    }
}

fn names(all: &[Migration]) -> Vec<&'static str> {
    all.iter().map(|migration| migration.name).collect()
}
