//! One Redis URL as kombu and Celery write it.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::dial::Address;
use crate::config::{CredentialCommand, SettingValue, Url};

/// The default port of a Redis server.
pub(super) const REDIS_PORT: u16 = 6379;
/// The default port of a Sentinel.
pub(super) const SENTINEL_PORT: u16 = 26379;

/// The parts of one URL.
pub(super) struct RedisUrl {
    pub(super) scheme: Scheme,
    pub(super) address: Address,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    /// Number of the database, when the URL names one.
    pub(super) database: Option<i64>,
    /// The parameter `credential_provider` of the query: a command that yields user and password.
    pub(super) credentials: Option<CredentialCommand>,
    /// The parameters of the query that say how to encrypt: `ssl_*`.
    pub(super) ssl: Map<String, Value>,
}

/// What the scheme of a URL says about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// `redis://`, `rediss://`, `redis+socket://`, `unix://`: the server itself.
    Server { tls: bool },
    /// `sentinel://`: one that knows where the server is.
    Sentinel,
    /// `redis+cluster://`, `rediss+cluster://`: one node of a cluster.
    Cluster { tls: bool },
}

impl Scheme {
    fn of(name: &str) -> Result<Self, String> {
        match name {
            "redis" | "redis+socket" | "socket" | "unix" => Ok(Scheme::Server { tls: false }),
            "rediss" => Ok(Scheme::Server { tls: true }),
            "sentinel" => Ok(Scheme::Sentinel),
            "redis+cluster" => Ok(Scheme::Cluster { tls: false }),
            "rediss+cluster" => Ok(Scheme::Cluster { tls: true }),
            other => Err(format!(
                "{other}:// is not offered: messages and results are kept in Redis or Valkey only\nhint: redis://HOST:6379/0, rediss:// (TLS), redis+socket:///PATH, sentinel://HOST:26379 and redis+cluster://HOST:6379 work"
            )),
        }
    }

    fn default_port(self) -> u16 {
        if self == Scheme::Sentinel { SENTINEL_PORT } else { REDIS_PORT }
    }
}

impl RedisUrl {
    /// Reads a URL; the error says what is wrong with it and shows no password.
    pub(super) fn parse(url: &Url) -> Result<Self, String> {
        let plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let text = url.expose();
        let Some((name, rest)) = text.split_once("://").filter(|(name, _)| plain(name)) else {
            // Celery's `rpc` and the like.
            if text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                Scheme::of(text)?;
            }
            return Err("it has no scheme\nhint: write redis://HOST:6379/0".to_owned());
        };
        let scheme = Scheme::of(name)?;
        if matches!(name, "redis+socket" | "socket" | "unix") {
            return socket(scheme, rest);
        }
        // A password may hold anything, even a question mark, unencoded: the last `@` ends it.
        let body = rest.split('?').next().unwrap_or(rest);
        let path_at = body.rfind('@').or_else(|| rest.rfind('@')).unwrap_or(0);
        let authority_end = rest[path_at..].find(['/', '?']).map_or(rest.len(), |at| path_at + at);
        let (authority, tail) = rest.split_at(authority_end);
        let (credentials, host) = match authority.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, authority),
        };
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let (username, password) = login(credentials)?;
        let mut query = parameters(query)?;
        Ok(Self {
            scheme,
            address: host_and_port(host, scheme.default_port())?,
            username,
            password,
            database: database(path, &query)?,
            credentials: provider(&mut query)?,
            ssl: ssl_parameters(query)?,
        })
    }
}

/// `redis+socket:///path/to.sock?virtual_host=0`, with user and password before the path if any.
fn socket(scheme: Scheme, rest: &str) -> Result<RedisUrl, String> {
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (credentials, path) = match location.rsplit_once("@/") {
        Some((credentials, path)) => (Some(credentials), format!("/{path}")),
        None => (None, location.to_owned()),
    };
    if !path.starts_with('/') {
        // It is not shown: a password may be in it.
        return Err("the socket's path is not absolute; hint: redis+socket:///run/redis.sock".to_owned());
    }
    let (username, password) = login(credentials)?;
    let mut query = parameters(query)?;
    let path = PathBuf::from(decoded(&path)?);
    let database = database("", &query)?;
    Ok(RedisUrl {
        scheme,
        address: Address::Unix(path),
        username,
        password,
        database,
        credentials: provider(&mut query)?,
        ssl: ssl_parameters(query)?,
    })
}

fn login(credentials: Option<&str>) -> Result<(Option<String>, Option<String>), String> {
    let Some(credentials) = credentials else { return Ok((None, None)) };
    let (user, password) = match credentials.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (credentials, None),
    };
    let given = |text: &str| if text.is_empty() { Ok(None) } else { decoded(text).map(Some) };
    Ok((given(user)?, password.map_or(Ok(None), given)?))
}

fn host_and_port(text: &str, default_port: u16) -> Result<Address, String> {
    // An IPv6 address stands in brackets.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        None | Some("") => default_port,
        // It is not shown: a password may be in it.
        Some(port) => port.parse().map_err(|_| {
            "what follows the host is not a port; hint: redis://USER:PASSWORD@HOST:6379/0, with an @ behind the password"
        })?,
    };
    let host = decoded(host.trim_start_matches('[').trim_end_matches(']'))?;
    // Celery takes a URL without a host for one of this machine.
    Ok(Address::Tcp(if host.is_empty() { "127.0.0.1".to_owned() } else { host }, port))
}

fn parameters(query: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| Ok((decoded(name)?, decoded(&value.replace('+', " "))?))).collect()
}

fn database(path: &str, query: &[(String, String)]) -> Result<Option<i64>, String> {
    let named = query.iter().rev().find(|(name, _)| matches!(name.as_str(), "virtual_host" | "db"));
    let text = named.map_or(path, |(_, value)| value.as_str()).trim_matches('/');
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.parse().ok().filter(|number| *number >= 0);
    number
        .map(Some)
        .ok_or_else(|| "its path is not the number of a database; hint: redis://HOST:6379/0".to_owned())
}

/// The command that yields user and password.
fn provider(query: &mut Vec<(String, String)>) -> Result<Option<CredentialCommand>, String> {
    let Some(at) = query.iter().position(|(name, _)| name == "credential_provider") else { return Ok(None) };
    let (name, command) = query.swap_remove(at);
    let wrong = |expected| format!("its parameter {name} is not {expected}");
    CredentialCommand::from_text(&command).map(Some).map_err(wrong)
}

/// What of the query is about TLS; the other parameters that redis-py takes are given as transport options.
fn ssl_parameters(query: Vec<(String, String)>) -> Result<Map<String, Value>, String> {
    let mut ssl = Map::new();
    for (name, value) in query {
        match name.as_str() {
            "virtual_host" | "db" => {}
            name if name.starts_with("ssl_") => drop(ssl.insert(name.to_owned(), value.into())),
            name => {
                return Err(format!(
                    "unknown parameter {name:?}; hint: give it in broker_transport_options or result_backend_transport_options"
                ));
            }
        }
    }
    Ok(ssl)
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| "a percent-encoded part is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> RedisUrl {
        RedisUrl::parse(&Url::new(url)).unwrap()
    }

    #[test]
    fn hosts_ports_and_databases_are_read() {
        let tcp = |host: &str, port| Address::Tcp(host.to_owned(), port);
        assert_eq!(parse("redis://h:6380/2").address, tcp("h", 6380));
        assert_eq!(parse("redis://h:6380/2").database, Some(2));
        assert_eq!(parse("redis://").address, tcp("127.0.0.1", 6379));
        assert_eq!(parse("redis://[::1]:7/").address, tcp("::1", 7));
        assert_eq!(parse("redis://[::1]").address, tcp("::1", 6379));
        assert_eq!(parse("sentinel://s").address, tcp("s", 26379));
        assert_eq!(parse("redis://h?db=4").database, Some(4));
        assert_eq!(parse("rediss+cluster://h").scheme, Scheme::Cluster { tls: true });
    }

    #[test]
    fn sockets_are_read_with_their_login() {
        let url = parse("redis+socket://user:p%40ss@/run/my%20redis.sock?virtual_host=/3");
        assert_eq!(url.address, Address::Unix("/run/my redis.sock".into()));
        assert_eq!((url.username.as_deref(), url.password.as_deref()), (Some("user"), Some("p@ss")));
        assert_eq!(url.database, Some(3));
    }

    #[test]
    fn passwords_are_decoded_and_may_hold_almost_anything() {
        for (url, password) in [
            ("redis://:p%2Fw%3A%25@h/0", "p/w:%"),
            ("redis://:p@w:x@h/0", "p@w:x"),
            ("redis://:p?w;#@h/0", "p?w;#"),
            ("redis://user:%E2%82%AC@h", "€"),
        ] {
            assert_eq!(parse(url).password.as_deref(), Some(password), "{url}");
            assert_eq!(parse(url).address, Address::Tcp("h".to_owned(), 6379), "{url}");
        }
        assert_eq!(parse("redis://only-a-user@h").username.as_deref(), Some("only-a-user"));
    }

    #[test]
    fn tls_parameters_are_kept_and_others_are_told() {
        let url = parse("rediss://h/1?ssl_cert_reqs=required&ssl_ca_certs=%2Fetc%2Fca.pem");
        assert_eq!(url.ssl["ssl_ca_certs"], "/etc/ca.pem");
        let error = RedisUrl::parse(&Url::new("redis://h?socket_timeout=3")).err().unwrap();
        assert!(error.contains("socket_timeout") && error.contains("transport_options"), "{error}");
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_password() {
        for (url, part) in [
            ("localhost:6379", "no scheme"),
            ("amqps+x://h", "amqps+x:// is not offered"),
            ("amqp://u:secret@h//", "redis+cluster://HOST:6379 work"),
            ("rpc", "rpc:// is not offered"),
            ("redis://:secret@h:port/0", "not a port"),
            ("redis://:secret@h/first", "not the number of a database"),
            ("redis+socket://:secret@relative", "not absolute"),
            ("redis://user:secret/0", "not a port"),
            ("redis://:secret/0", "not a port"),
            ("redis://user:se/secret?secret=1", "not a port"),
            ("redis://user:6/secret", "not the number of a database"),
            ("user:secret@h://", "no scheme"),
        ] {
            let error = RedisUrl::parse(&Url::new(url)).err().unwrap();
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
    }
}
