//! The state of the database in a few words, which name no host and no user.

use std::{io, time::Duration};

use sqlx::{Connection, PgConnection};

use super::{Pool, Store, migrate, migrations::Migration, postgres::Link};

/// Why the service cannot work with the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseFault {
    /// Nobody listens at its address.
    #[error("connection refused")]
    Refused,
    /// Its address leads nowhere, or the connection broke.
    #[error("cannot be reached ({0})")]
    Unreachable(String),
    /// It is silent.
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    /// Both sides do not agree on TLS.
    #[error("no TLS with it")]
    Tls,
    /// The password is wrong.
    #[error("wrong password")]
    Password,
    /// There is no such user, or it may not connect from here.
    #[error("the user is not known, or may not connect from here")]
    User,
    /// The server has no database of that name.
    #[error("no such database")]
    NoDatabase,
    /// All connections that it allows are taken.
    #[error("too many connections")]
    Full,
    /// It starts, stops or recovers.
    #[error("starting or stopping")]
    Starting,
    /// The user has no right to what the service needs.
    #[error("permission denied")]
    Permission,
    /// The schema is not up to date; these migrations are missing.
    #[error("not migrated ({} missing; run `companion migrate`)", .0.join(", "))]
    NotMigrated(Vec<&'static str>),
    /// The SQLite file cannot be opened.
    #[error("the file cannot be opened")]
    File,
    /// The SQLite file is something else.
    #[error("the file is not a database")]
    NotADatabase,
    /// Another process holds the SQLite file for too long.
    #[error("locked by another process")]
    Locked,
    /// Something else; the code is SQLSTATE, or SQLite's.
    #[error("it answered with the error {0}")]
    Code(String),
    /// Something else.
    #[error("it cannot be used")]
    Other,
}

impl DatabaseFault {
    /// Returns the fault behind an error of the driver.
    pub(super) fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => Self::Refused,
            sqlx::Error::Io(error) => Self::Unreachable(unreachable(error)),
            sqlx::Error::Tls(_) => Self::Tls,
            sqlx::Error::PoolTimedOut => Self::Silent(super::postgres::ACQUIRE_TIMEOUT),
            sqlx::Error::Database(error) => error.code().map_or(Self::Other, |code| Self::of_code(&code)),
            _ => Self::Other,
        }
    }

    fn of_code(code: &str) -> Self {
        if code.len() < 5 {
            return match code.parse::<u32>().unwrap_or_default() & 0xff {
                5 | 6 => Self::Locked,
                14 => Self::File,
                26 => Self::NotADatabase,
                _ => Self::Code(code.to_owned()),
            };
        }
        match code {
            "28P01" => Self::Password,
            "28000" => Self::User,
            "3D000" => Self::NoDatabase,
            "53300" => Self::Full,
            "57P01" | "57P02" | "57P03" => Self::Starting,
            "42501" => Self::Permission,
            code => Self::Code(code.to_owned()),
        }
    }
}

fn unreachable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "timed out".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the connection broke".to_owned()
        }
        // Those of the resolver come from no system call.
        _ if error.raw_os_error().is_none() => "its name leads to no address".to_owned(),
        kind => kind.to_string(),
    }
}

impl Store {
    /// Asks whether the database answers within `patience` and has the schema that this release needs.
    ///
    /// # Errors
    /// [`DatabaseFault`], which names the cause.
    pub async fn check(&self, patience: Duration) -> Result<(), DatabaseFault> {
        let check = async {
            match &self.pool {
                Pool::Postgres(link) => check_postgres(link).await,
                Pool::Sqlite(pool) => check_sqlite(pool).await,
            }
        };
        tokio::time::timeout(patience, check).await.unwrap_or(Err(DatabaseFault::Silent(patience)))
    }
}

async fn check_postgres(link: &Link) -> Result<(), DatabaseFault> {
    let mut probe = link.probe.lock().await;
    // Taken while it is in use, so that one that is silent is not used again.
    if let Some(mut connection) = probe.take()
        && let Ok(applied) = migrate::recorded(&mut connection).await
    {
        *probe = Some(connection);
        return complete(migrate::POSTGRES, &applied);
    }
    let connected = PgConnection::connect_with(&link.options).await;
    let mut connection = connected.map_err(|error| DatabaseFault::of(&error))?;
    let applied = migrate::recorded(&mut connection).await.map_err(|error| DatabaseFault::of(&error))?;
    *probe = Some(connection);
    complete(migrate::POSTGRES, &applied)
}

async fn check_sqlite(pool: &sqlx::SqlitePool) -> Result<(), DatabaseFault> {
    let applied = migrate::recorded_in_file(pool).await.map_err(|error| DatabaseFault::of(&error))?;
    complete(migrate::SQLITE, &applied)
}

fn complete(all: &'static [Migration], applied: &[String]) -> Result<(), DatabaseFault> {
    let missing: Vec<&'static str> = migrate::missing(all, applied).map(|migration| migration.name).collect();
    if missing.is_empty() { Ok(()) } else { Err(DatabaseFault::NotMigrated(missing)) }
}
