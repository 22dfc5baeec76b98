//! How bodies are written: by a serializer, and then signed or encrypted when the settings say so.
//!
//! A signed or encrypted body holds the serialized one with its types, as Celery's `auth` serializer has it.

#[cfg(feature = "security")]
mod auth;
#[cfg(feature = "security")]
mod encryption;

use std::fmt::Debug;
use std::sync::Arc;

#[cfg(feature = "security")]
pub use auth::Auth;
#[cfg(feature = "security")]
pub use encryption::Encryption;

use super::{Accept, ProtocolError, Serializer};
use crate::config::Config;

/// Names of the serializers, as settings use them.
const AUTH: &str = "auth";
const ENCRYPTED: &str = "encrypted";

/// A serialized body and its types.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// Mime type.
    pub content_type: String,
    /// Encoding, such as `utf-8`.
    pub content_encoding: String,
    /// The bytes.
    pub body: Vec<u8>,
}

/// Puts a body into another one that is signed or encrypted.
pub trait Wrap: Debug + Send + Sync {
    /// The name that settings use.
    fn name(&self) -> &'static str;

    /// Mime type of what it writes.
    fn content_type(&self) -> &'static str;

    /// Encoding of what it writes.
    fn content_encoding(&self) -> &'static str;

    /// Whether nothing of the arguments may stand in the headers.
    fn is_secret(&self) -> bool;

    /// Signs or encrypts.
    ///
    /// # Errors
    /// There is no key to do it with.
    fn wrap(&self, content: &Content) -> Result<Vec<u8>, ProtocolError>;

    /// Checks or decrypts.
    ///
    /// # Errors
    /// [`ProtocolError::NotTrusted`] when a single bit is not as it was written, or the key is not known.
    fn unwrap(&self, data: &[u8]) -> Result<Content, ProtocolError>;
}

/// How a body is written.
#[derive(Clone, Debug, Default)]
pub struct Codec {
    /// The serializer.
    pub serializer: Serializer,
    /// What comes around it.
    pub wrapper: Option<Arc<dyn Wrap>>,
}

impl From<Serializer> for Codec {
    fn from(serializer: Serializer) -> Self {
        Codec { serializer, wrapper: None }
    }
}

impl Codec {
    /// The body as it is sent, before compression, with its types.
    pub(crate) fn finish(&self, body: Vec<u8>) -> Result<Content, ProtocolError> {
        let content = Content {
            content_type: self.serializer.content_type().to_owned(),
            content_encoding: self.serializer.content_encoding().to_owned(),
            body,
        };
        match &self.wrapper {
            None => Ok(content),
            Some(wrapper) => Ok(Content {
                body: wrapper.wrap(&content)?,
                content_type: wrapper.content_type().to_owned(),
                content_encoding: wrapper.content_encoding().to_owned(),
            }),
        }
    }
}

/// Everything that the settings let messages be written and read with.
#[derive(Clone, Debug, Default)]
pub struct Codecs {
    wrappers: Vec<Arc<dyn Wrap>>,
}

impl Codecs {
    /// Those of the settings: keys and certificates are read when `auth` or `encrypted` is among the serializers.
    ///
    /// # Errors
    /// A setting is missing, or names a file that cannot be read or holds no key or certificate.
    pub fn new(config: &Config) -> Result<Self, ProtocolError> {
        let named = [config.task_serializer, config.event_serializer];
        let uses = |name: &str| {
            let serializers = config.accept_content.iter().chain(&named);
            serializers.into_iter().any(|serializer| serializer.as_str() == name)
        };
        let mut wrappers: Vec<Arc<dyn Wrap>> = Vec::new();
        if uses(AUTH) {
            wrappers.push(auth(config)?);
        }
        if uses(ENCRYPTED) {
            wrappers.push(encryption(config)?);
        }
        Ok(Self { wrappers })
    }

    /// The way to write that goes by that name.
    ///
    /// # Errors
    /// There is none of that name, or its keys are not configured.
    pub fn codec(&self, name: &str) -> Result<Codec, ProtocolError> {
        match self.wrappers.iter().find(|wrapper| wrapper.name() == name) {
            Some(wrapper) => Ok(Codec { serializer: Serializer::Json, wrapper: Some(Arc::clone(wrapper)) }),
            None => Ok(Serializer::from_name(name)?.into()),
        }
    }

    /// What is read where anything may be shown: every serializer that is known.
    pub(crate) fn accept_all(&self) -> Accept {
        Accept::all().with_wrappers(self.wrappers.clone())
    }

    /// What is read: `accept_content`.
    ///
    /// # Errors
    /// A serializer is not known.
    pub fn accept(&self, config: &Config) -> Result<Accept, ProtocolError> {
        let names = config.accept_content.iter().map(|serializer| serializer.as_str());
        let is_wrapper = |name: &&str| self.wrappers.iter().any(|wrapper| wrapper.name() == *name);
        let (wrapped, plain): (Vec<_>, Vec<_>) = names.partition(is_wrapper);
        let wrappers = self.wrappers.iter().filter(|wrapper| wrapped.contains(&wrapper.name()));
        Ok(Accept::new(plain)?.with_wrappers(wrappers.cloned().collect()))
    }
}

#[cfg(feature = "security")]
fn auth(config: &Config) -> Result<Arc<dyn Wrap>, ProtocolError> {
    Ok(Arc::new(Auth::from_config(config)?))
}

#[cfg(feature = "security")]
fn encryption(config: &Config) -> Result<Arc<dyn Wrap>, ProtocolError> {
    Ok(Arc::new(Encryption::from_config(config)?))
}

#[cfg(not(feature = "security"))]
fn auth(_: &Config) -> Result<Arc<dyn Wrap>, ProtocolError> {
    Err(not_built(AUTH))
}

#[cfg(not(feature = "security"))]
fn encryption(_: &Config) -> Result<Arc<dyn Wrap>, ProtocolError> {
    Err(not_built(ENCRYPTED))
}

#[cfg(not(feature = "security"))]
fn not_built(name: &str) -> ProtocolError {
    let reason = format!(
        "names {name}, which this program was built without\nhint: build celeriac with its feature `security`"
    );
    ProtocolError::Security { setting: "accept_content", reason }
}
