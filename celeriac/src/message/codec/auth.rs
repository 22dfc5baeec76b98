//! Celery's `auth` serializer: bodies with an RSA signature, checked by the signer's certificate.
//!
//! Source: celery 5.7 `celery/security/`. As there, the signature covers the body and not the headers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey};
use rsa::traits::{PublicKeyParts, SignatureScheme};
use rsa::{PrivateKey, Pss, PublicKey};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{AUTH, Content, Wrap};
use crate::config::Config;
use crate::message::{ProtocolError, Serializer};

/// Stands between the parts; none but the body can contain it.
const SEPARATOR: &[u8] = b"\x00\x01";

/// Signs with a key, and checks signatures by certificates.
pub struct Auth {
    key: PrivateKey,
    /// Id of the certificate that belongs to the key.
    signer: String,
    certificates: HashMap<String, Certificate>,
    digest: Hash,
}

struct Certificate {
    key: PublicKey,
    /// Unix time of its end.
    expires: i64,
}

impl Auth {
    /// With the key and the certificates that `security_key`, `security_key_password`, `security_certificate` and
    /// `security_cert_store` name, and `security_digest`.
    ///
    /// # Errors
    /// One of them is missing, cannot be read, is no RSA key, or a certificate has expired.
    pub fn from_config(config: &Config) -> Result<Self, ProtocolError> {
        let setting = |name: &'static str, value: &Option<String>| {
            let value = value.clone().filter(|value| !value.is_empty());
            value.ok_or_else(|| bad(name, "is not set", "the auth serializer needs it"))
        };
        let key_file = setting("security_key", &config.security_key)?;
        let own = setting("security_certificate", &config.security_certificate)?;
        let store = setting("security_cert_store", &config.security_cert_store)?;
        let digest = Hash::from_name(&config.security_digest)?;
        let password = config.security_key_password.as_deref();
        let key = private_key(&read("security_key", Path::new(&key_file))?, password)
            .map_err(|reason| bad("security_key", &key_file, reason))?;
        let (signer, _) = certificate(&read("security_certificate", Path::new(&own))?)
            .map_err(|reason| bad("security_certificate", &own, reason))?;
        let mut certificates = HashMap::new();
        for path in files(&store).map_err(|error| bad("security_cert_store", &store, error))? {
            let shown = path.display().to_string();
            let (id, certificate) = certificate(&read("security_cert_store", &path)?)
                .map_err(|reason| bad("security_cert_store", &shown, reason))?;
            if certificate.has_expired() {
                return Err(bad("security_cert_store", &shown, "the certificate has expired"));
            }
            if certificates.insert(id, certificate).is_some() {
                return Err(bad("security_cert_store", &shown, "another file has the same certificate"));
            }
        }
        Ok(Self { key, signer, certificates, digest })
    }
}

impl Wrap for Auth {
    fn name(&self) -> &'static str {
        AUTH
    }

    fn is_secret(&self) -> bool {
        false
    }

    fn content_type(&self) -> &'static str {
        "application/data"
    }

    fn content_encoding(&self) -> &'static str {
        "utf-8"
    }

    fn wrap(&self, content: &Content) -> Result<Vec<u8>, ProtocolError> {
        let signature =
            self.digest.sign(&self.key, &content.body).map_err(|error| ProtocolError::encode(AUTH, error))?;
        let (signer, signature) = (STANDARD.encode(&self.signer), STANDARD.encode(signature));
        let parts = [
            signer.as_bytes(),
            signature.as_bytes(),
            content.content_type.as_bytes(),
            content.content_encoding.as_bytes(),
            &content.body,
        ];
        Ok(STANDARD.encode(parts.join(SEPARATOR)).into_bytes())
    }

    fn unwrap(&self, data: &[u8]) -> Result<Content, ProtocolError> {
        let refuse = |reason: &str| ProtocolError::NotTrusted { reason: reason.to_owned() };
        let packed = STANDARD.decode(data).map_err(|_| refuse("the body is not base64"))?;
        let mut rest = packed.as_slice();
        let mut part = || {
            let end = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR)?;
            let (part, after) = rest.split_at(end);
            rest = &after[SEPARATOR.len()..];
            Some(part)
        };
        let mut head = || Some([part()?, part()?, part()?, part()?]);
        let [signer, signature, content_type, content_encoding] =
            head().ok_or_else(|| refuse("the body has not the parts of a signed one"))?;
        let decoded = |part: &[u8]| STANDARD.decode(part).ok();
        let text = |part: &[u8]| String::from_utf8(part.to_vec()).ok();
        let signer = decoded(signer).and_then(|signer| String::from_utf8(signer).ok());
        let signer = signer.ok_or_else(|| refuse("the signer cannot be read"))?;
        let signature = decoded(signature).ok_or_else(|| refuse("the signature cannot be read"))?;
        let certificate = self
            .certificates
            .get(&signer)
            .ok_or_else(|| refuse(&format!("no certificate of the signer {signer:?} is known")))?;
        if certificate.has_expired() {
            return Err(refuse(&format!("the certificate of the signer {signer:?} has expired")));
        }
        if !self.digest.verify(&certificate.key, rest, &signature) {
            return Err(refuse(&format!("the signature is not one of {signer:?} for this body")));
        }
        // The types are not signed: what is none of those that Celery writes is taken for damage.
        let types = text(content_type).zip(text(content_encoding));
        let (content_type, content_encoding) = types
            .filter(|(content_type, encoding)| {
                Serializer::from_name(content_type).is_ok_and(|known| {
                    known.content_type() == content_type && known.content_encoding() == encoding
                })
            })
            .ok_or_else(|| refuse("the types of the signed body are not known"))?;
        Ok(Content { content_type, content_encoding, body: rest.to_vec() })
    }
}

impl Certificate {
    fn has_expired(&self) -> bool {
        Utc::now().timestamp() >= self.expires
    }
}

/// `security_digest`.
#[derive(Clone, Copy, Debug)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn from_name(name: &str) -> Result<Self, ProtocolError> {
        match name.to_ascii_lowercase().as_str() {
            "sha224" => Ok(Hash::Sha224),
            "sha256" => Ok(Hash::Sha256),
            "sha384" => Ok(Hash::Sha384),
            "sha512" => Ok(Hash::Sha512),
            _ => Err(bad("security_digest", name, "is none of sha224, sha256, sha384, sha512")),
        }
    }

    fn sign(self, key: &PrivateKey, body: &[u8]) -> rsa::Result<Vec<u8>> {
        fn with<D: Digest + rsa::signature::digest::FixedOutputReset>(
            key: &PrivateKey,
            body: &[u8],
        ) -> rsa::Result<Vec<u8>>
        where
            Pss<D>: SignatureScheme,
        {
            let salt = longest_salt(key, <D as Digest>::output_size());
            key.sign_with_rng(&mut rand::rng(), Pss::<D>::new_blinded_with_salt(salt), &D::digest(body))
        }
        match self {
            Hash::Sha224 => with::<Sha224>(key, body),
            Hash::Sha256 => with::<Sha256>(key, body),
            Hash::Sha384 => with::<Sha384>(key, body),
            Hash::Sha512 => with::<Sha512>(key, body),
        }
    }

    fn verify(self, key: &PublicKey, body: &[u8], signature: &[u8]) -> bool {
        fn with<D: Digest + rsa::signature::digest::FixedOutputReset>(
            key: &PublicKey,
            body: &[u8],
            signature: &[u8],
        ) -> bool
        where
            Pss<D>: SignatureScheme,
        {
            let salt = longest_salt(key, <D as Digest>::output_size());
            key.verify(Pss::<D>::new_with_salt(salt), &D::digest(body), signature).is_ok()
        }
        match self {
            Hash::Sha224 => with::<Sha224>(key, body, signature),
            Hash::Sha256 => with::<Sha256>(key, body, signature),
            Hash::Sha384 => with::<Sha384>(key, body, signature),
            Hash::Sha512 => with::<Sha512>(key, body, signature),
        }
    }
}

/// `padding.PSS.MAX_LENGTH` of Python's cryptography: what the encoded message has room for.
fn longest_salt(key: &impl PublicKeyParts, hash: usize) -> usize {
    let encoded = (key.n().bit_width_vartime() as usize).saturating_sub(1).div_ceil(8);
    encoded.saturating_sub(hash + 2)
}

fn private_key(pem: &str, password: Option<&str>) -> Result<PrivateKey, String> {
    if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") {
        let password = password.ok_or("it is encrypted; hint: set security_key_password")?;
        return PrivateKey::from_pkcs8_encrypted_pem(pem, password).map_err(|error| error.to_string());
    }
    if pem.contains("BEGIN RSA PRIVATE KEY") {
        return PrivateKey::from_pkcs1_pem(pem).map_err(|error| error.to_string());
    }
    PrivateKey::from_pkcs8_pem(pem).map_err(|error| error.to_string())
}

/// A certificate and the id by which signatures name it: the values of its issuer and its serial number.
fn certificate(pem: &str) -> Result<(String, Certificate), String> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
    let (_, parsed) = X509Certificate::from_der(&block.contents).map_err(|error| error.to_string())?;
    let mut id = String::new();
    for attribute in parsed.issuer().iter_attributes() {
        id.push_str(attribute.as_str().map_err(|error| error.to_string())?);
        id.push(' ');
    }
    id.push_str(&parsed.tbs_certificate.serial.to_string());
    let key = PublicKey::from_public_key_der(parsed.public_key().raw)
        .map_err(|error| format!("its key is no RSA key: {error}"))?;
    Ok((id, Certificate { key, expires: parsed.validity().not_after.timestamp() }))
}

/// The files of a folder, or those that match a pattern whose last part may have one `*`.
fn files(store: &str) -> std::io::Result<Vec<PathBuf>> {
    let path = Path::new(store);
    let (folder, pattern) = match path.is_dir() {
        true => (path, "*"),
        false => (
            path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")),
            path.file_name().and_then(|name| name.to_str()).unwrap_or_default(),
        ),
    };
    let (start, end) = pattern.split_once('*').unwrap_or((pattern, ""));
    let is_meant = |name: &str| {
        let hidden = name.starts_with('.') && !pattern.starts_with('.');
        let fits = if pattern.contains('*') {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        } else {
            name == pattern
        };
        fits && !hidden
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_meant) && entry.path().is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn read(setting: &'static str, path: &Path) -> Result<String, ProtocolError> {
    std::fs::read_to_string(path).map_err(|error| bad(setting, &path.display().to_string(), error))
}

fn bad(setting: &'static str, value: &str, reason: impl ToString) -> ProtocolError {
    ProtocolError::Security { setting, reason: format!("{value}: {}", reason.to_string()) }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Auth").field("signer", &self.signer).finish_non_exhaustive()
    }
}
