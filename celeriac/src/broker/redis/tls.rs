//! TLS to a server, under the options that redis-py takes.
//!
//! Source: redis-py `SSLConnection`; celery 5.7 `RedisBackend` for the names of `ssl_cert_reqs`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redis::RedisError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion, version,
};
use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::SettingValue;

/// How to encrypt, and whom to trust.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

/// An option that cannot be used: its name, the file that it names if it does, and what is wrong.
#[derive(Debug, PartialEq)]
pub(super) struct BadTls {
    pub(super) option: String,
    pub(super) file: Option<PathBuf>,
    pub(super) reason: String,
}

impl Tls {
    /// TLS under options such as `ssl_ca_certs`; without any the server must have a certificate for its host name
    /// from an authority that this system trusts.
    pub(super) fn new(options: &Map<String, Value>) -> Result<Self, BadTls> {
        let options = Options::read(options)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(options.versions)
            .map_err(|error| bad("ssl_min_version", error))?
            .dangerous()
            .with_custom_certificate_verifier(options.verifier(provider)?);
        let config = match (&options.certfile, &options.keyfile) {
            (None, None) => config.with_no_client_auth(),
            (Some(certificate), key) => {
                let key_option = if key.is_some() { "ssl_keyfile" } else { "ssl_certfile" };
                let chain = certificates("ssl_certfile", certificate)?;
                let key = private_key(key_option, key.as_ref().unwrap_or(certificate))?;
                config.with_client_auth_cert(chain, key).map_err(|error| bad("ssl_keyfile", error))?
            }
            (None, Some(_)) => {
                return Err(bad("ssl_keyfile", "ssl_certfile is missing: a key needs its certificate"));
            }
        };
        Ok(Self(Arc::new(config)))
    }

    /// Shakes hands with the server of that name.
    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }
}

/// What to do about a server that answers a handshake with something else, or as Redis does with nothing.
pub(super) const PLAIN: &str = "the server may not speak TLS on this port";

/// What is wrong and what to do, if that is TLS's business.
pub(super) fn trouble(error: &RedisError) -> Option<(String, &'static str)> {
    let source = std::error::Error::source(error)?;
    // The driver shares its causes.
    let shared = source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>();
    let io = shared.map_or_else(|| source.downcast_ref::<io::Error>(), |shared| shared.downcast_ref())?;
    let error = io.get_ref()?.downcast_ref::<rustls::Error>()?;
    let hint = match error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "ssl_ca_certs must name the certificate of the authority that signed the server's",
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "connect by a name that is in the server's certificate, or set ssl_check_hostname to false",
        rustls::Error::InvalidCertificate(_) => {
            "the server needs a certificate that is valid now and for a server"
        }
        rustls::Error::AlertReceived(_) => {
            "the server refuses this client: it may want a certificate (ssl_certfile, ssl_keyfile) that its authority signed"
        }
        rustls::Error::InvalidMessage(_) => PLAIN,
        _ => "see the options ssl_* of broker_use_ssl and redis_backend_use_ssl",
    };
    Some((error.to_string(), hint))
}

/// The options, read.
struct Options {
    is_verified: bool,
    checks_hostname: bool,
    ca_certs: Option<PathBuf>,
    ca_path: Option<PathBuf>,
    ca_data: Option<String>,
    certfile: Option<PathBuf>,
    keyfile: Option<PathBuf>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl Options {
    fn read(given: &Map<String, Value>) -> Result<Self, BadTls> {
        let mut options = Self {
            is_verified: true,
            checks_hostname: true,
            ca_certs: None,
            ca_path: None,
            ca_data: None,
            certfile: None,
            keyfile: None,
            versions: rustls::ALL_VERSIONS,
        };
        for (name, value) in given {
            let text = || match value {
                Value::Null => Ok(None),
                Value::String(text) => Ok(Some(text.clone())),
                other => Err(bad(name, format!("{other} is not text"))),
            };
            let path = || Ok(text()?.map(PathBuf::from));
            match name.as_str() {
                "ssl_cert_reqs" => options.is_verified = is_verified(value)?,
                "ssl_check_hostname" => {
                    options.checks_hostname = bool::from_json(value)
                        .map_err(|expected| bad(name, format!("{value} is not {expected}")))?;
                }
                "ssl_ca_certs" => options.ca_certs = path()?,
                "ssl_ca_path" => options.ca_path = path()?,
                "ssl_ca_data" => options.ca_data = text()?,
                "ssl_certfile" => options.certfile = path()?,
                "ssl_keyfile" => options.keyfile = path()?,
                "ssl_min_version" => options.versions = versions(value)?,
                _ if value.is_null() => {}
                "ssl_password" => {
                    return Err(bad(
                        name,
                        "encrypted keys are not read\nhint: `openssl pkey -in KEY -out PLAIN` decrypts one",
                    ));
                }
                _ => {
                    return Err(bad(
                        name,
                        "there is no such option of TLS\nhint: ssl_cert_reqs, ssl_ca_certs, ssl_ca_path, ssl_ca_data, ssl_certfile, ssl_keyfile, ssl_check_hostname and ssl_min_version are known",
                    ));
                }
            }
        }
        Ok(options)
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, BadTls> {
        if !self.is_verified {
            log::warn!(
                "ssl_cert_reqs is CERT_NONE: the identity of the Redis server is not verified, which allows a man in the middle"
            );
            return Ok(Arc::new(Lenient { provider, inner: None }));
        }
        let (option, roots) = self.roots()?;
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| bad(option, error))?;
        Ok(if self.checks_hostname { inner } else { Arc::new(Lenient { provider, inner: Some(inner) }) })
    }

    /// The authorities that are trusted, and the option that names them.
    fn roots(&self) -> Result<(&'static str, RootCertStore), BadTls> {
        let mut roots = RootCertStore::empty();
        let mut add = |option: &'static str, file: Option<&Path>, found: Vec<CertificateDer<'static>>| {
            found.into_iter().try_for_each(|certificate| {
                roots.add(certificate).map_err(|error| BadTls {
                    option: option.to_owned(),
                    file: file.map(Path::to_owned),
                    reason: error.to_string(),
                })
            })
        };
        if let Some(file) = &self.ca_certs {
            add("ssl_ca_certs", Some(file), certificates("ssl_ca_certs", file)?)?;
        }
        if let Some(data) = &self.ca_data {
            let found = CertificateDer::pem_slice_iter(data.as_bytes()).collect::<Result<Vec<_>, _>>();
            add("ssl_ca_data", None, found.map_err(|error| bad("ssl_ca_data", error))?)?;
        }
        if let Some(folder) = &self.ca_path {
            let found = rustls_native_certs::load_certs_from_paths(None, Some(folder));
            if let Some(error) = found.errors.first() {
                return Err(unreadable("ssl_ca_path", folder, error));
            }
            add("ssl_ca_path", Some(folder), found.certs)?;
        }
        if self.ca_certs.is_none() && self.ca_data.is_none() && self.ca_path.is_none() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(bad(
                    "ssl_ca_certs",
                    "is not set, and this system has no certificates of authorities\nhint: set it, or install the package ca-certificates",
                ));
            }
        }
        Ok(("ssl_ca_certs", roots))
    }
}

/// Whether the server's certificate is verified. The numbers are those of Python's `ssl`; a client has no use for the
/// difference between "optional" and "required".
fn is_verified(value: &Value) -> Result<bool, BadTls> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.to_ascii_lowercase().trim_start_matches("cert_") {
        "required" | "optional" | "2" | "1" => Ok(true),
        "none" | "null" | "0" => Ok(false),
        _ => Err(bad("ssl_cert_reqs", format!("{text:?} is not CERT_REQUIRED, CERT_OPTIONAL or CERT_NONE"))),
    }
}

static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&version::TLS13];

/// The versions of TLS from that one on, by its name or by the number that Python's `ssl.TLSVersion` gives it.
fn versions(value: &Value) -> Result<&'static [&'static SupportedProtocolVersion], BadTls> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.as_str() {
        "null" | "771" | "TLSv1_2" | "TLSv1.2" => Ok(rustls::ALL_VERSIONS),
        "772" | "TLSv1_3" | "TLSv1.3" => Ok(TLS13_ONLY),
        _ => Err(bad("ssl_min_version", format!("{text:?} is not TLSv1.2 (771) or TLSv1.3 (772)"))),
    }
}

fn certificates(option: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, BadTls> {
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err(unreadable(option, file, "it holds no certificate in PEM form")),
        Ok(found) => Ok(found),
        Err(error) => Err(unreadable(option, file, said(&error))),
    }
}

fn private_key(option: &str, file: &Path) -> Result<PrivateKeyDer<'static>, BadTls> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            unreadable(option, file, "it holds no private key in PEM form, or an encrypted one")
        }
        error => unreadable(option, file, said(&error)),
    })
}

fn said(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        error => format!("it is not in PEM form: {error}"),
    }
}

fn bad(option: impl Into<String>, reason: impl ToString) -> BadTls {
    BadTls { option: option.into(), file: None, reason: reason.to_string() }
}

fn unreadable(option: &str, file: &Path, reason: impl ToString) -> BadTls {
    BadTls { option: option.to_owned(), file: Some(file.to_owned()), reason: reason.to_string() }
}

/// Takes any certificate, or one that only its host name speaks against.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    /// Who decides about everything but the name; nobody decides about anything otherwise.
    inner: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(options: Value) -> Result<Tls, BadTls> {
        Tls::new(options.as_object().unwrap())
    }

    #[test]
    fn the_options_of_redis_py_are_taken() {
        for taken in [
            json!({"ssl_cert_reqs": "CERT_NONE"}),
            json!({"ssl_cert_reqs": "none", "ssl_check_hostname": "False", "ssl_min_version": 772}),
            json!({"ssl_cert_reqs": 0, "ssl_ca_certs": null, "ssl_min_version": "TLSv1_2"}),
            json!({"ssl_cert_reqs": null}),
        ] {
            assert!(options(taken.clone()).is_ok(), "{taken}");
        }
    }

    #[test]
    fn a_bad_option_is_named() {
        for (given, option, part) in [
            (json!({"ssl_cert_reqs": "maybe"}), "ssl_cert_reqs", "CERT_REQUIRED"),
            (json!({"ssl_ca_certs": "/no/such.pem"}), "ssl_ca_certs", "No such file"),
            (
                json!({"ssl_cert_reqs": "none", "ssl_certfile": "/no/such.pem"}),
                "ssl_certfile",
                "No such file",
            ),
            (json!({"ssl_cert_reqs": "none", "ssl_keyfile": "/k.pem"}), "ssl_keyfile", "ssl_certfile"),
            (json!({"ca_certs": "/ca.pem"}), "ca_certs", "ssl_ca_certs"),
            (json!({"ssl_password": "secret"}), "ssl_password", "openssl pkey"),
            (json!({"ssl_check_hostname": "perhaps"}), "ssl_check_hostname", "true or false"),
        ] {
            let Err(error) = options(given) else { panic!("{option} is not refused") };
            assert_eq!(error.option, option);
            assert!(error.reason.contains(part), "{error:?}");
        }
    }
}
