//! Redis URLs as kombu writes them.

use std::path::PathBuf;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

use crate::broker::BrokerError;

/// Where a Redis database is, and how to be let in.
#[derive(Clone)]
pub struct Endpoint {
    info: ConnectionInfo,
    shown: String,
}

impl Endpoint {
    /// Reads `redis://`, `rediss://`, `redis+socket://` and `unix://` URLs.
    ///
    /// # Errors
    /// [`BrokerError::BadUrl`] names the URL without its password and what is wrong with it.
    pub fn parse(url: &str) -> Result<Self, BrokerError> {
        let shown = redact(url);
        let bad = |reason: String| BrokerError::BadUrl { url: shown.clone(), reason };
        let info = match url.split_once("://") {
            Some(("redis+socket" | "unix", rest)) => socket(rest).map_err(bad)?,
            Some(("redis" | "rediss", _)) => url
                .into_connection_info()
                .map_err(|error| bad(error.detail().unwrap_or("malformed URL").to_owned()))?,
            Some((scheme, _)) => {
                return Err(bad(format!("unknown transport {scheme:?}; hint: use redis://HOST:6379/0")));
            }
            None => return Err(bad("no scheme; hint: write redis://HOST:6379/0".to_owned())),
        };
        Ok(Self { info, shown })
    }

    /// How to connect, with that protocol version.
    pub(crate) fn connection_info(&self, protocol: ProtocolVersion) -> ConnectionInfo {
        let settings = self.info.redis_settings().clone().set_protocol(protocol);
        self.info.clone().set_redis_settings(settings)
    }

    /// The number of the database.
    pub fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }

    /// Whether both are the same database of the same server.
    pub fn same_database(&self, other: &Endpoint) -> bool {
        self.info.addr() == other.info.addr() && self.database() == other.database()
    }

    /// Whether both are the same server.
    pub fn same_server(&self, other: &Endpoint) -> bool {
        self.info.addr() == other.info.addr()
    }

    /// Host name and port, or the path of the socket and 0.
    pub fn address(&self) -> (String, u16) {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) => (host.clone(), *port),
            ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), *port),
            other => (other.to_string(), 0),
        }
    }
}

/// The URL without its password.
impl std::fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.shown)
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Endpoint({})", self.shown)
    }
}

/// `redis+socket:///path/to.sock?virtual_host=0`, with user and password before the path if any.
fn socket(rest: &str) -> Result<ConnectionInfo, String> {
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (user_info, path) = match location.split_once('@') {
        Some((user_info, path)) => (Some(user_info), path),
        None => (None, location),
    };
    if !path.starts_with('/') {
        return Err(format!("the socket's path {path:?} is not absolute"));
    }
    let mut settings = RedisConnectionInfo::default();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        if matches!(name, "virtual_host" | "db") {
            let database = value.trim_start_matches('/').parse();
            settings =
                settings.set_db(database.map_err(|_| format!("{name} {value:?} is not a database number"))?);
        }
    }
    if let Some((user, password)) = user_info.and_then(|user_info| user_info.split_once(':')) {
        if !user.is_empty() {
            settings = settings.set_username(user);
        }
        settings = settings.set_password(password);
    }
    let address = ConnectionAddr::Unix(PathBuf::from(path));
    let info = address.into_connection_info().map_err(|error| error.to_string())?;
    Ok(info.set_redis_settings(settings))
}

/// The URL with `**` for its password, as Celery shows it.
pub(crate) fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "**".to_owned() };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => {
            let user = rest[..at].split(':').next().unwrap_or("");
            format!("{scheme}://{user}:**@{}", &rest[at + 1..])
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        for url in ["redis://:secret@localhost:6379/1", "rediss://user:secret@host/0", "foo://a:secret@b/c"] {
            let shown =
                Endpoint::parse(url).map_or_else(|error| error.to_string(), |endpoint| endpoint.to_string());
            assert!(!shown.contains("secret"), "{shown}");
        }
    }

    #[test]
    fn sockets_and_databases_are_read() {
        let endpoint = Endpoint::parse("redis+socket:///tmp/redis.sock?virtual_host=3").unwrap();
        assert_eq!(endpoint.database(), 3);
        assert_eq!(Endpoint::parse("redis://localhost:6380/2").unwrap().database(), 2);
        assert!(Endpoint::parse("localhost:6379").is_err());
        assert!(Endpoint::parse("amqps+x://h").unwrap_err().to_string().contains("unknown transport"));
    }
}
