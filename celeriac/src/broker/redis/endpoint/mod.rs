//! A Redis database: which servers it may be on, and how they let one in.

mod access;
mod settings;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub(super) use self::access::Access;
use self::access::Provider;
use self::settings::Settings;
use super::dial::Address;
use crate::broker::BrokerError;
use crate::config::{Config, FailoverStrategy, Url};
use rand::seq::IndexedRandom;

/// A Redis database, on one server, on one of several, or wherever Sentinels or a cluster say; cheap to clone.
#[derive(Clone)]
pub struct Endpoint {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    shown: String,
    database: i64,
    pub(super) place: Place,
    /// How the server itself lets one in; of alternatives each has its own.
    pub(super) access: Access,
}

/// Where to look for the server.
pub(super) enum Place {
    Alternatives(Alternatives),
    Sentinels(Sentinels),
    Cluster(Cluster),
}

/// Servers of which any will do, tried in turn.
pub(super) struct Alternatives {
    pub(super) servers: Vec<(Address, Access)>,
    strategy: FailoverStrategy,
    current: AtomicUsize,
}

/// Those who know where the server is.
pub(super) struct Sentinels {
    pub(super) addresses: Vec<Address>,
    pub(super) access: Access,
    pub(super) master_name: String,
    pub(super) min_other_sentinels: u64,
}

/// Nodes of a cluster, of which the one is wanted that has the keys of a prefix.
pub(super) struct Cluster {
    pub(super) prefix: String,
    /// Those of the URL, and behind them those that were heard of.
    known: Mutex<Vec<Address>>,
    seeds: Vec<Address>,
}

impl Endpoint {
    /// The database of broker messages at `url`.
    ///
    /// Reads `redis://`, `rediss://`, `redis+socket://`, `sentinel://`, `redis+cluster://` and `rediss+cluster://`, and
    /// of the settings `broker_use_ssl`, `broker_transport_options` and `broker_failover_strategy`.
    ///
    /// # Errors
    /// [`BrokerError::BadUrl`] names the URL without its password and what is wrong with it, [`BrokerError::BadTls`]
    /// an option of TLS or a file that cannot be used.
    pub fn broker(url: &Url, config: &Config) -> Result<Self, BrokerError> {
        let options = &config.broker_transport_options;
        Settings {
            name: "broker_url",
            url,
            ssl: ("broker_use_ssl", &config.broker_use_ssl),
            options: ("broker_transport_options", options),
            client_name: options.text("client_name"),
            provider: options.credential_provider().map(Provider::new).map(Arc::new),
            strategy: config.broker_failover_strategy.unwrap_or_default(),
        }
        .endpoint()
    }

    /// The database of results at `url`: as [`Endpoint::broker`], with `redis_backend_use_ssl` and
    /// `result_backend_transport_options`, `redis_client_name` and `redis_backend_credential_provider`.
    ///
    /// # Errors
    /// The same as [`Endpoint::broker`].
    pub fn result_backend(url: &Url, config: &Config) -> Result<Self, BrokerError> {
        let options = &config.result_backend_transport_options;
        Settings {
            name: "result_backend",
            url,
            ssl: ("redis_backend_use_ssl", &config.redis_backend_use_ssl),
            options: ("result_backend_transport_options", options),
            client_name: options.text("client_name").or(config.redis_client_name.as_deref()),
            provider: options
                .credential_provider()
                .or_else(|| config.redis_backend_credential_provider.clone())
                .map(Provider::new)
                .map(Arc::new),
            strategy: FailoverStrategy::default(),
        }
        .endpoint()
    }

    /// The number of the database.
    pub fn database(&self) -> i64 {
        self.inner.database
    }

    /// Whether both are surely the same database, so that one transaction can reach both.
    pub fn same_database(&self, other: &Endpoint) -> bool {
        self.same_place(other) && self.database() == other.database()
    }

    /// Whether both are surely databases of one server, which lets the same user in: then a transaction that changes the
    /// database can reach both. A cluster has one database only.
    pub fn same_server(&self, other: &Endpoint) -> bool {
        !self.is_cluster() && self.same_place(other) && self.server_access().lets_in_as(other.server_access())
    }

    /// How the first server lets one in.
    fn server_access(&self) -> &Access {
        match &self.inner.place {
            Place::Alternatives(alternatives) => &alternatives.servers[0].1,
            Place::Sentinels(_) | Place::Cluster(_) => &self.inner.access,
        }
    }

    fn same_place(&self, other: &Endpoint) -> bool {
        let share =
            |ours: &[Address], theirs: &[Address]| ours.iter().any(|address| theirs.contains(address));
        match (&self.inner.place, &other.inner.place) {
            // Of several servers each connection may be to another one.
            (Place::Alternatives(ours), Place::Alternatives(theirs)) => {
                ours.servers.len() == 1
                    && theirs.servers.len() == 1
                    && ours.servers[0].0 == theirs.servers[0].0
            }
            (Place::Sentinels(ours), Place::Sentinels(theirs)) => {
                ours.master_name == theirs.master_name && share(&ours.addresses, &theirs.addresses)
            }
            (Place::Cluster(ours), Place::Cluster(theirs)) => {
                hash_tag(&ours.prefix) == hash_tag(&theirs.prefix) && share(&ours.seeds, &theirs.seeds)
            }
            _ => false,
        }
    }

    /// Host name and port of the first server of the URL, or the path of its socket and 0.
    pub fn address(&self) -> (String, u16) {
        let first = match &self.inner.place {
            Place::Alternatives(alternatives) => &alternatives.servers[alternatives.current()].0,
            Place::Sentinels(sentinels) => &sentinels.addresses[0],
            Place::Cluster(cluster) => &cluster.seeds[0],
        };
        match first {
            Address::Tcp(host, port) => (host.clone(), *port),
            Address::Unix(path) => (path.display().to_string(), 0),
        }
    }

    /// Whether its servers belong to a cluster, which sends one from node to node.
    pub fn is_cluster(&self) -> bool {
        matches!(self.inner.place, Place::Cluster(_))
    }

    /// How many servers there are to try before one may say that none is there.
    pub(super) fn alternatives(&self) -> usize {
        match &self.inner.place {
            Place::Alternatives(alternatives) => alternatives.servers.len(),
            _ => 1,
        }
    }

    /// The server that is tried next, if there is a choice.
    pub(super) fn current(&self) -> Option<Address> {
        match &self.inner.place {
            Place::Alternatives(alternatives) => Some(alternatives.servers[alternatives.current()].0.clone()),
            _ => None,
        }
    }

    /// The name that its connections are given, if any (`client_name`).
    pub(super) fn client_name(&self) -> Option<&str> {
        self.inner.access.client_name()
    }

    /// How the server lets one in.
    pub(super) fn access(&self) -> &Access {
        &self.inner.access
    }

    /// Notes that the server at that address is not there, or takes no writes: the next one is tried then.
    pub(super) fn avoid(&self, address: &Address) {
        let Place::Alternatives(alternatives) = &self.inner.place else { return };
        let current = alternatives.current();
        if alternatives.servers[current].0 == *address {
            alternatives.leave(current);
        }
    }
}

impl Alternatives {
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Goes to the next server, unless somebody else has gone there already.
    fn leave(&self, current: usize) {
        let count = self.servers.len();
        let next = match self.strategy {
            FailoverStrategy::RoundRobin => (current + 1) % count,
            FailoverStrategy::Shuffle => {
                let others: Vec<usize> = (0..count).filter(|index| *index != current).collect();
                others.choose(&mut rand::rng()).copied().unwrap_or(current)
            }
        };
        // Losing the race means that the server was left already.
        let _ = self.current.compare_exchange(current, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Cluster {
    /// Every node that may answer.
    pub(super) fn known(&self) -> Vec<Address> {
        let heard = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.seeds.clone();
        all.extend(heard.iter().filter(|address| !self.seeds.contains(address)).cloned());
        all
    }

    /// Remembers the nodes that a node named.
    pub(super) fn remember(&self, nodes: Vec<Address>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
    }
}

/// The part of a prefix that decides the slot of every key that begins with it, if there is one.
///
/// Source: the Redis cluster specification, hash tags.
fn hash_tag(prefix: &str) -> Option<&str> {
    let (_, rest) = prefix.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

/// The URL without its password.
impl std::fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.inner.shown)
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(url: &str, options: &str) -> Result<Endpoint, BrokerError> {
        let mut config = Config::default();
        config.set("broker_transport_options", options).unwrap();
        Endpoint::broker(&Url::new(url), &config)
    }

    #[test]
    fn passwords_are_never_shown() {
        for url in [
            "redis://:secret@localhost:6379/1",
            "rediss://user:secret@host/0",
            "foo://a:secret@b/c",
            "redis://user:secret/0",
            "sentinel://a:1;user:secret/0",
            "user:secret@host/0",
        ] {
            let shown =
                broker(url, "{}").map_or_else(|error| error.to_string(), |endpoint| format!("{endpoint:?}"));
            assert!(!shown.contains("secret"), "{shown}");
        }
    }

    #[test]
    fn alternatives_are_left_once_and_come_round_again() {
        let endpoint = broker("redis://a:1/2;redis://b:2/2", "{}").unwrap();
        let [a, b] = ["a", "b"].map(|host| Address::Tcp(host.to_owned(), if host == "a" { 1 } else { 2 }));
        assert_eq!((endpoint.alternatives(), endpoint.address().0.as_str()), (2, "a"));
        endpoint.avoid(&a);
        endpoint.avoid(&a);
        assert_eq!(endpoint.address().0, "b", "two connections that lost the same server leave it once");
        endpoint.avoid(&b);
        assert_eq!(endpoint.address().0, "a");
    }

    #[test]
    fn one_database_is_known_as_one() {
        let options = r#"{"master_name": "m", "global_keyprefix": "{app}"}"#;
        for (ours, theirs, same) in [
            ("redis://h/1", "redis://:other@h:6379/1", true),
            ("redis://h/1", "redis://h/2", false),
            ("redis://a;redis://b", "redis://a;redis://b", false),
            ("sentinel://a;sentinel://b", "sentinel://b;sentinel://c", true),
            ("sentinel://a", "sentinel://c", false),
            ("redis+cluster://a;b", "redis+cluster://b:6379", true),
            ("redis+cluster://a", "redis://a", false),
        ] {
            let [left, right] = [ours, theirs].map(|url| broker(url, options).unwrap());
            assert_eq!(left.same_database(&right), same, "{ours} and {theirs}");
        }
    }

    #[test]
    fn databases_of_one_server_are_known_as_such() {
        let options = r#"{"master_name": "m"}"#;
        for (ours, theirs, same) in [
            ("redis://h/0", "redis://h:6379/1", true),
            ("redis://user:word@h/0", "redis://user:word@h/1", true),
            ("redis://user:word@h/0", "redis://other:word@h/1", false),
            ("redis://:word@h/0", "redis://:other@h/1", false),
            ("redis://:word@h/0", "redis://h/1", false),
            ("redis://h/0", "redis://h:6380/1", false),
            ("redis://h/0", "redis://i/1", false),
            ("redis://h/0", "rediss://h/1", false),
            ("redis://a/0;redis://b/0", "redis://a/1;redis://b/1", false),
            ("redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=1", true),
            ("sentinel://a/0;sentinel://b/0", "sentinel://b/1;sentinel://c/1", true),
            ("sentinel://:word@a/0", "sentinel://a/1", false),
        ] {
            let [left, right] = [ours, theirs].map(|url| broker(url, options).unwrap());
            assert_eq!(left.same_server(&right), same, "{ours} and {theirs}");
        }
        let cluster = broker("redis+cluster://a", r#"{"global_keyprefix": "{app}"}"#).unwrap();
        assert!(!cluster.same_server(&cluster), "nodes have one database only");
    }

    #[test]
    fn what_a_place_lacks_is_said() {
        for (url, options, part) in [
            ("sentinel://a;sentinel://b", "{}", "master_name"),
            ("sentinel://a;sentinel://b/2", r#"{"master_name": "m"}"#, "the same number in each"),
            ("redis+cluster://a", r#"{"global_keyprefix": "app:"}"#, "hash tag"),
            ("redis+cluster://a/1", r#"{"global_keyprefix": "{app}"}"#, "database 0 only"),
            ("redis://a/1;redis://b/2", "{}", "the same database number"),
            ("redis://a?ssl_cert_reqs=none", "{}", "rediss://"),
        ] {
            let error = broker(url, options).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn a_bad_file_is_named_with_its_setting() {
        let error = broker("rediss://h?ssl_ca_certs=/no/such.pem", "{}").unwrap_err().to_string();
        for part in ["broker_use_ssl", "ssl_ca_certs", "/no/such.pem", "No such file"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn hash_tags_are_found_as_the_specification_says() {
        assert_eq!(hash_tag("{app}:"), Some("app"));
        assert_eq!(hash_tag("x{a{b}c}"), Some("a{b"));
        assert_eq!(hash_tag("{}x"), None);
        assert_eq!(hash_tag("plain"), None);
    }
}
