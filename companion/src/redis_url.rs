//! The URL of Redis: what Celery's workers read in it, the options of TLS, counts for this service's own connection too.
//!
//! Source: celery 5.7 `backends/redis.py` for `ssl_cert_reqs`, redis-py `SSLConnection` for the others.

use std::path::Path;

use redis::{Client, ClientTlsConfig, IntoConnectionInfo, TlsCertificates};
use reqwest::Url;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// A URL that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisUrlError {
    /// It is not one of Redis.
    #[error(
        "is not a Redis URL ({0}); expected redis://[user:password@]host:port/database, or rediss:// for TLS"
    )]
    Url(String),
    /// An option of TLS has a value, or names a file, that is of no use.
    #[error("option {option}: {reason}")]
    Option {
        /// Its name.
        option: String,
        /// What is wrong with it, and what would do.
        reason: String,
    },
}

/// A client for the database at a URL; nothing is connected yet.
pub(crate) fn client(url: &str) -> Result<Client, RedisUrlError> {
    let refused = |error: &dyn std::fmt::Display| RedisUrlError::Url(error.to_string());
    let mut url = Url::parse(url).map_err(|error| refused(&error))?;
    if url.scheme() != "rediss" {
        return Client::open(url).map_err(|error| refused(&error));
    }
    let options = Options::read(&url)?;
    url.set_fragment((!options.is_verified).then_some("insecure"));
    crate::tls::install_provider();
    let info = url.into_connection_info().map_err(|error| refused(&error))?;
    Client::build_with_tls(info, options.certificates)
        .map_err(|error| unusable("ssl_keyfile", error.to_string()))
}

/// The options of TLS.
struct Options {
    is_verified: bool,
    certificates: TlsCertificates,
}

impl Options {
    fn read(url: &Url) -> Result<Self, RedisUrlError> {
        let (mut is_verified, mut root_cert, mut client_cert, mut client_key) = (true, None, None, None);
        for (option, value) in url.query_pairs().filter(|(option, _)| option.starts_with("ssl_")) {
            let file = || {
                std::fs::read(Path::new(&*value))
                    .map_err(|error| unusable(&option, format!("{value} cannot be read: {error}")))
            };
            match (&*option, value.to_ascii_lowercase().as_str()) {
                ("ssl_ca_certs", _) => root_cert = Some(certificates(&option, file()?)?),
                ("ssl_certfile", _) => client_cert = Some(certificates(&option, file()?)?),
                ("ssl_keyfile", _) => client_key = Some(file()?),
                ("ssl_cert_reqs", "none" | "cert_none") => is_verified = false,
                ("ssl_cert_reqs", "required" | "cert_required" | "optional" | "cert_optional") => {}
                ("ssl_cert_reqs", _) => {
                    return Err(unusable(&option, format!("{value:?} is none of required, optional, none")));
                }
                _ => {
                    let known = "ssl_cert_reqs, ssl_ca_certs, ssl_certfile and ssl_keyfile";
                    return Err(unusable(&option, format!("is not known; {known} are")));
                }
            }
        }
        let client_tls = match (client_cert, client_key) {
            (None, None) => None,
            (Some(client_cert), key) => {
                // As for redis-py, one file may hold both.
                let client_key = key.unwrap_or_else(|| client_cert.clone());
                Some(ClientTlsConfig { client_cert, client_key })
            }
            (None, Some(_)) => {
                return Err(unusable(
                    "ssl_keyfile",
                    "ssl_certfile is missing: a key needs its certificate".into(),
                ));
            }
        };
        Ok(Self { is_verified, certificates: TlsCertificates { client_tls, root_cert } })
    }
}

/// The text of a file, if there are certificates in it: the driver takes one without for no authority at all.
fn certificates(option: &str, text: Vec<u8>) -> Result<Vec<u8>, RedisUrlError> {
    match CertificateDer::pem_slice_iter(&text).next() {
        Some(Ok(_)) => Ok(text),
        Some(Err(error)) => Err(unusable(option, format!("its certificate cannot be read: {error}"))),
        None => Err(unusable(option, "the file holds no certificate in PEM form".to_owned())),
    }
}

fn unusable(option: &str, reason: String) -> RedisUrlError {
    RedisUrlError::Option { option: option.to_owned(), reason }
}
