use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use sqlx::postgres::PgConnectOptions;

use super::reader::Reader;

/// Where the data live.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// A PostgreSQL server.
    Postgres(Box<PgConnectOptions>),
    /// A file of SQLite, made when it is not there.
    Sqlite(PathBuf),
}

/// How the database is used.
#[derive(Debug, Clone, Copy)]
pub struct PoolSettings {
    /// `DATABASE_POOL_SIZE`, default 10: connections that one process keeps at most.
    pub size: u32,
    /// `DATABASE_STATEMENT_TIMEOUT` in seconds, default 10: the longest that PostgreSQL works on a statement.
    pub statement_timeout: Duration,
}

impl PoolSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let seconds = reader.positive("DATABASE_STATEMENT_TIMEOUT").unwrap_or(10);
        Self {
            size: reader.positive("DATABASE_POOL_SIZE").unwrap_or(10),
            statement_timeout: Duration::from_secs(seconds.into()),
        }
    }
}

const EXPECTED: &str = "postgresql://user:password@host:port/database or sqlite://path";
const DEFAULT_FILE: &str = ".run/companion.db";

impl fmt::Display for DatabaseUrl {
    /// Without user and password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(options) => {
                let database = options.get_database().unwrap_or_default();
                write!(formatter, "postgresql://{}:{}/{database}", options.get_host(), options.get_port())
            }
            Self::Sqlite(path) => write!(formatter, "sqlite://{}", path.display()),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    /// Takes `postgres://`, `postgresql://` and SQLAlchemy's `postgresql+driver://`, and `sqlite://path`, where an
    /// absolute path begins with the third slash.
    fn from_str(url: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(format!("is not a URL; expected {EXPECTED}"));
        };
        match scheme.split('+').next().unwrap_or_default() {
            "postgres" | "postgresql" => {
                let options = PgConnectOptions::from_str(&format!("postgresql://{rest}"))
                    .map_err(|error| format!("is not a PostgreSQL URL ({error}); expected {EXPECTED}"))?;
                Ok(Self::Postgres(Box::new(options)))
            }
            "sqlite" if !rest.trim_start_matches('/').is_empty() => Ok(Self::Sqlite(PathBuf::from(rest))),
            "sqlite" => Err(format!("names no file; expected {EXPECTED}")),
            other => Err(format!("has the scheme {other:?}; expected {EXPECTED}")),
        }
    }
}

pub(super) fn read(reader: &mut Reader, development: bool) -> DatabaseUrl {
    let unusable = || DatabaseUrl::Sqlite(PathBuf::new());
    for name in ["APP_DATABASE__URL", "DATABASE_URL"] {
        let Some(url) = reader.text(name) else { continue };
        return url.parse().unwrap_or_else(|problem: String| {
            reader.problem(name, &problem);
            unusable()
        });
    }
    if ["POSTGRES_HOST", "POSTGRES_DB", "POSTGRES_USER"].into_iter().any(|name| reader.text(name).is_some()) {
        return from_parts(reader);
    }
    if development {
        return DatabaseUrl::Sqlite(PathBuf::from(DEFAULT_FILE));
    }
    reader.problem("DATABASE_URL", &format!("is missing; expected {EXPECTED}, or POSTGRES_HOST and its kin"));
    unusable()
}

fn from_parts(reader: &mut Reader) -> DatabaseUrl {
    let mut required = |name: &str, expected: &str| {
        reader.text(name).unwrap_or_else(|| {
            reader.problem(
                name,
                &format!("is missing, but other POSTGRES_ settings are set; expected {expected}"),
            );
            String::new()
        })
    };
    let host = required("POSTGRES_HOST", "the name of the database server");
    let database = required("POSTGRES_DB", "the name of the database");
    let user = required("POSTGRES_USER", "the name of the database user");
    let port = reader.port("POSTGRES_PORT").unwrap_or(5432);
    let mut options =
        PgConnectOptions::new_without_pgpass().host(&host).port(port).database(&database).username(&user);
    if let Some(password) = reader.secret("POSTGRES_PASSWORD") {
        options = options.password(password.expose());
    }
    DatabaseUrl::Postgres(Box::new(options))
}
