//! Reading a URL and the settings around it: what they say about the place of a database.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};

use super::access::{Access, Credentials, Login, Provider};
use super::{Alternatives, Cluster, Endpoint, Inner, Place, Sentinels, hash_tag};
use crate::broker::BrokerError;
use crate::broker::redis::dial::Address;
use crate::broker::redis::tls::{BadTls, Tls};
use crate::broker::redis::url::{RedisUrl, Scheme};
use crate::config::{FailoverStrategy, SettingValue, Ssl, TransportOptions, Url};

/// The settings that say how to connect to a URL.
pub(super) struct Settings<'a> {
    /// Name of the setting that holds the URL.
    pub(super) name: &'static str,
    pub(super) url: &'a Url,
    /// Name of the setting about TLS, and its value.
    pub(super) ssl: (&'static str, &'a Ssl),
    /// Name of the setting of the transport's options, and its value.
    pub(super) options: (&'static str, &'a TransportOptions),
    pub(super) strategy: FailoverStrategy,
    /// The name of the connections.
    pub(super) client_name: Option<&'a str>,
    /// What yields user and password in place of those of the URL.
    pub(super) provider: Option<Arc<Provider>>,
}

impl Settings<'_> {
    /// The database that they lead to.
    pub(super) fn endpoint(self) -> Result<Endpoint, BrokerError> {
        let alternatives = self.url.alternatives();
        let scheme = alternatives[0].scheme();
        let several_hosts = scheme == "sentinel" || scheme.ends_with("+cluster");
        let first = match several_hosts.then(|| hosts(&alternatives[0]).into_iter().next()).flatten() {
            Some(host) => self.read(&host)?,
            None => self.read(&alternatives[0])?,
        };
        let place = match first.scheme {
            Scheme::Server { .. } => self.alternatives(&alternatives)?,
            Scheme::Sentinel => self.sentinels(&first, &alternatives)?,
            Scheme::Cluster { .. } => self.cluster(&first, &alternatives)?,
        };
        let access = self.access(&first)?;
        let database = first.database.unwrap_or(0);
        Ok(Endpoint { inner: Arc::new(Inner { shown: self.url.masked(), database, place, access }) })
    }

    fn alternatives(&self, urls: &[Url]) -> Result<Place, BrokerError> {
        let mut servers = Vec::with_capacity(urls.len());
        let mut databases = Vec::with_capacity(urls.len());
        for url in urls {
            let read = self.read(url)?;
            if !matches!(read.scheme, Scheme::Server { .. }) {
                return Err(self.bad("alternatives must all be servers, redis:// or rediss://"));
            }
            databases.push(read.database.unwrap_or(0));
            let access = self.access(&read)?;
            servers.push((read.address, access));
        }
        if databases.iter().any(|database| *database != databases[0]) {
            return Err(self
                .bad("alternatives must have the same database number: the names of the channels hold it"));
        }
        Ok(Place::Alternatives(Alternatives {
            servers,
            strategy: self.strategy,
            current: AtomicUsize::new(0),
        }))
    }

    /// Source: kombu 5.7 `SentinelChannel`, celery 5.7 `SentinelBackend`: user, password and database are those of the
    /// first URL and belong to the server, those of the Sentinels stand in `sentinel_kwargs`.
    fn sentinels(&self, first: &RedisUrl, urls: &[Url]) -> Result<Place, BrokerError> {
        let (name, options) = self.options;
        let mut addresses = Vec::new();
        // `sentinel://a:1;b:2/0` is one URL in which the further hosts have no scheme.
        for part in urls.iter().flat_map(hosts) {
            let read = self.read(&part)?;
            if read.scheme != Scheme::Sentinel {
                return Err(self.bad("sentinel:// cannot be mixed with other schemes"));
            }
            if read.database.is_some_and(|database| database != first.database.unwrap_or(0)) {
                return Err(self.bad(
                    "the number of the database is taken from the first URL: write the same number in each",
                ));
            }
            addresses.push(read.address);
        }
        let Some(master_name) = options.text("master_name").filter(|name| !name.is_empty()) else {
            return Err(self.bad(format!("the option master_name of {name} is not set\nhint: {{\"master_name\": \"mymaster\"}}, as the Sentinels call it")));
        };
        let no_options = Map::new();
        let kwargs = options.get("sentinel_kwargs").and_then(Value::as_object).unwrap_or(&no_options);
        let text = |key: &str| kwargs.get(key).and_then(Value::as_str).map(str::to_owned);
        let mut ssl: Map<String, Value> = kwargs
            .iter()
            .filter(|(key, _)| key.starts_with("ssl_"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let encrypted =
            !ssl.is_empty() || kwargs.get("ssl").is_some_and(|ssl| bool::from_json(ssl).unwrap_or(false));
        let tls = if encrypted { Some(self.tls(&mut ssl, Map::new())?) } else { None };
        Ok(Place::Sentinels(Sentinels {
            addresses,
            access: Access {
                login: Login::Known(Credentials { username: text("username"), password: text("password") }),
                tls,
                client_name: self.client_name()?,
            },
            master_name: master_name.to_owned(),
            min_other_sentinels: options.number("min_other_sentinels").unwrap_or(0),
        }))
    }

    fn cluster(&self, first: &RedisUrl, urls: &[Url]) -> Result<Place, BrokerError> {
        let (name, options) = self.options;
        let mut seeds = Vec::new();
        for part in urls.iter().flat_map(hosts) {
            let read = self.read(&part)?;
            if read.scheme != first.scheme {
                return Err(self.bad("redis+cluster:// cannot be mixed with other schemes"));
            }
            if read.database.unwrap_or(0) != 0 {
                return Err(self.bad(
                    "a cluster has database 0 only\nhint: tell applications apart by global_keyprefix",
                ));
            }
            seeds.push(read.address);
        }
        let prefix = options.text("global_keyprefix").unwrap_or_default();
        if hash_tag(prefix).is_none() {
            return Err(self.bad(format!(
                "the option global_keyprefix of {name} is {prefix:?}: in a cluster it must hold a hash tag, so that all keys are on one node\nhint: {{\"global_keyprefix\": \"{{app}}:\"}}"
            )));
        }
        Ok(Place::Cluster(Cluster { prefix: prefix.to_owned(), known: Mutex::default(), seeds }))
    }

    fn read(&self, url: &Url) -> Result<RedisUrl, BrokerError> {
        RedisUrl::parse(url).map_err(|reason| self.bad(reason))
    }

    fn access(&self, url: &RedisUrl) -> Result<Access, BrokerError> {
        let (_, ssl) = self.ssl;
        let by_scheme = matches!(url.scheme, Scheme::Server { tls: true } | Scheme::Cluster { tls: true });
        if !url.ssl.is_empty() && !by_scheme && url.scheme != Scheme::Sentinel {
            return Err(
                self.bad("it has parameters for TLS, but its scheme is without\nhint: write rediss://")
            );
        }
        let mut options = match ssl {
            Ssl::On(options) => options.clone(),
            Ssl::Off => Map::new(),
        };
        let encrypted = by_scheme || *ssl != Ssl::Off || !url.ssl.is_empty();
        let is_socket = matches!(url.address, Address::Unix(_));
        let tls = if encrypted && !is_socket { Some(self.tls(&mut options, url.ssl.clone())?) } else { None };
        let own = || Credentials { username: url.username.clone(), password: url.password.clone() };
        let login = self.provider.clone().or(url.credentials.clone().map(Provider::new).map(Arc::new));
        Ok(Access {
            login: login.map_or_else(|| Login::Known(own()), Login::Asked),
            tls,
            client_name: self.client_name()?,
        })
    }

    /// The name of the connections, which the server must take.
    fn client_name(&self) -> Result<Option<String>, BrokerError> {
        let Some(name) = self.client_name.filter(|name| !name.is_empty()) else { return Ok(None) };
        if name.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Some(name.to_owned()))
        } else {
            Err(self.bad(format!("the client name {name:?} must be printable ASCII without spaces")))
        }
    }

    /// TLS under the options of the setting, over which those of the URL win.
    fn tls(&self, options: &mut Map<String, Value>, of_url: Map<String, Value>) -> Result<Tls, BrokerError> {
        options.extend(of_url);
        Tls::new(options).map_err(|BadTls { option, file, reason }| BrokerError::BadTls {
            url: self.url.masked(),
            setting: self.ssl.0,
            option,
            file,
            reason,
        })
    }

    fn bad(&self, reason: impl Into<String>) -> BrokerError {
        BrokerError::BadUrl { setting: self.name, url: self.url.masked(), reason: reason.into() }
    }
}

/// The hosts of a URL in which further hosts follow the first without a scheme, each as a URL.
fn hosts(url: &Url) -> Vec<Url> {
    let Some((scheme, rest)) = url.expose().split_once("://") else { return vec![url.clone()] };
    rest.split(';')
        .filter(|part| !part.is_empty())
        .map(|part| Url::new(format!("{scheme}://{part}")))
        .collect()
}
