//! Serializers, and which of them are accepted.
//!
//! Source: kombu 5.7 `kombu/serialization.py`.

use std::sync::Arc;

use super::codec::Wrap;
use super::compression::DEFAULT_LIMIT;
use super::error::{ProtocolError, shorten};
use super::{Value, json, msgpack, yaml};
use crate::config::Serializer;

impl Serializer {
    /// The serializer of that name or mime type.
    ///
    /// # Errors
    /// There is none of that name, or it is pickle.
    pub fn from_name(name: &str) -> Result<Self, ProtocolError> {
        Self::named(name).ok_or_else(|| ProtocolError::UnknownSerializer { name: shorten(name) })
    }

    /// Mime type of its messages.
    pub fn content_type(self) -> &'static str {
        match self {
            Serializer::Json => "application/json",
            Serializer::Yaml => "application/x-yaml",
            Serializer::Msgpack => "application/x-msgpack",
            Serializer::Raw => "application/data",
        }
    }

    /// Encoding of its messages.
    pub fn content_encoding(self) -> &'static str {
        match self {
            Serializer::Json | Serializer::Yaml => "utf-8",
            Serializer::Msgpack | Serializer::Raw => "binary",
        }
    }

    /// Writes the value.
    ///
    /// # Errors
    /// The serializer has no form for it.
    pub fn dumps(self, value: &Value) -> Result<Vec<u8>, ProtocolError> {
        match self {
            Serializer::Json => Ok(json::dumps(value).into_bytes()),
            Serializer::Yaml => yaml::dumps(value).map(String::into_bytes),
            Serializer::Msgpack => msgpack::dumps(value),
            Serializer::Raw => match value {
                Value::Bytes(bytes) => Ok(bytes.clone()),
                Value::Str(text) => Ok(text.clone().into_bytes()),
                Value::Surrogates(_) => Err(ProtocolError::lone_surrogate("raw", value)),
                other => {
                    Err(ProtocolError::encode("raw", format!("{} is neither bytes nor text", other.kind())))
                }
            },
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// The bytes are not of that serializer.
    pub fn loads(self, data: &[u8]) -> Result<Value, ProtocolError> {
        match self {
            Serializer::Json => json::loads(data),
            Serializer::Yaml => yaml::loads(data),
            Serializer::Msgpack => msgpack::loads(data),
            Serializer::Raw => Ok(Value::Bytes(data.to_owned())),
        }
    }
}

/// The serializers whose messages are read (`accept_content`); JSON when nothing is said.
///
/// Raw data is always read, as kombu trusts it.
#[derive(Clone, Debug)]
pub struct Accept {
    serializers: Vec<Serializer>,
    /// Those of signed and encrypted bodies.
    wrappers: Vec<Arc<dyn Wrap>>,
    /// Largest body in bytes, as it comes.
    max_bytes: usize,
    /// Largest body in bytes after decompression.
    max_decompressed_bytes: usize,
}

impl Default for Accept {
    fn default() -> Self {
        Accept::of(vec![Serializer::Json])
    }
}

impl Accept {
    /// Accepts the serializers of these names or mime types.
    ///
    /// # Errors
    /// One of them is not known, or is pickle.
    pub fn new(names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, ProtocolError> {
        let serializers =
            names.into_iter().map(|name| Serializer::from_name(name.as_ref())).collect::<Result<_, _>>()?;
        Ok(Accept::of(serializers))
    }

    /// Accepts every serializer that is known.
    pub fn all() -> Self {
        Accept::of(vec![Serializer::Json, Serializer::Yaml, Serializer::Msgpack, Serializer::Raw])
    }

    fn of(serializers: Vec<Serializer>) -> Self {
        Accept {
            serializers,
            wrappers: Vec::new(),
            max_bytes: usize::MAX,
            max_decompressed_bytes: DEFAULT_LIMIT,
        }
    }

    /// The same within other bounds, in bytes: of the body as it comes, and after decompression. Default: none, 256 MiB.
    #[must_use]
    pub fn limited(mut self, max_bytes: usize, max_decompressed_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self.max_decompressed_bytes = max_decompressed_bytes;
        self
    }

    /// The same, and bodies that are signed or encrypted so.
    #[must_use]
    pub fn with_wrappers(mut self, wrappers: Vec<Arc<dyn Wrap>>) -> Self {
        self.wrappers = wrappers;
        self
    }

    /// What reads signed or encrypted bodies of that mime type.
    pub(super) fn wrapper(&self, content_type: &str) -> Option<&dyn Wrap> {
        let wrapper = self.wrappers.iter().find(|wrapper| wrapper.content_type() == content_type)?;
        Some(&**wrapper)
    }

    /// The most that a body may be after decompression.
    pub(super) fn max_decompressed_bytes(&self) -> usize {
        self.max_decompressed_bytes
    }

    /// Fails when a body is larger than is read.
    pub(super) fn check_size(&self, size: usize) -> Result<(), ProtocolError> {
        if size <= self.max_bytes {
            return Ok(());
        }
        Err(ProtocolError::BodyTooLarge { size, limit: self.max_bytes })
    }

    /// The same, of every serializer if it is of any; one that takes signed or encrypted bodies only stays so.
    pub(super) fn of_any_serializer(&self) -> Self {
        let mut accept = self.clone();
        if !accept.serializers.is_empty() {
            accept.serializers = Accept::all().serializers;
        }
        accept
    }

    /// Whether a message of that mime type is read.
    pub fn allows(&self, content_type: &str) -> bool {
        is_trusted(content_type)
            || self.serializers.iter().any(|serializer| serializer.content_type() == content_type)
    }

    /// Fails when a message of that mime type is not read.
    ///
    /// # Errors
    /// [`ProtocolError::ContentDisallowed`].
    pub fn check(&self, content_type: &str) -> Result<(), ProtocolError> {
        if self.allows(content_type) {
            return Ok(());
        }
        Err(ProtocolError::ContentDisallowed { content_type: shorten(content_type) })
    }
}

impl From<Serializer> for Accept {
    fn from(serializer: Serializer) -> Self {
        Accept::of(vec![serializer])
    }
}

/// A missing type counts as raw data.
fn is_trusted(content_type: &str) -> bool {
    matches!(content_type, "" | "application/data" | "application/text")
}

/// Reads a body by its types.
pub(super) fn loads(data: &[u8], content_type: &str, content_encoding: &str) -> Result<Value, ProtocolError> {
    let encoding = check_encoding(content_encoding)?;
    match Serializer::from_name(content_type) {
        Ok(serializer) if serializer != Serializer::Raw => serializer.loads(data),
        _ => decode_text(data, encoding),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TextEncoding {
    Utf8,
    Ascii,
    Latin1,
    Binary,
}

pub(super) fn check_encoding(name: &str) -> Result<TextEncoding, ProtocolError> {
    match name {
        "utf-8" | "" => return Ok(TextEncoding::Utf8),
        "binary" => return Ok(TextEncoding::Binary),
        _ => {}
    }
    match name.to_ascii_lowercase().replace('_', "-").as_str() {
        "utf-8" | "utf8" => Ok(TextEncoding::Utf8),
        "us-ascii" | "ascii" => Ok(TextEncoding::Ascii),
        "latin-1" | "latin1" | "iso-8859-1" => Ok(TextEncoding::Latin1),
        "binary" | "ascii-8bit" => Ok(TextEncoding::Binary),
        _ => Err(ProtocolError::UnknownEncoding { field: "content-encoding", encoding: shorten(name) }),
    }
}

fn decode_text(data: &[u8], encoding: TextEncoding) -> Result<Value, ProtocolError> {
    match encoding {
        TextEncoding::Binary => Ok(Value::Bytes(data.to_owned())),
        TextEncoding::Latin1 => Ok(Value::Str(data.iter().copied().map(char::from).collect())),
        TextEncoding::Ascii if !data.is_ascii() => {
            Err(ProtocolError::decode("us-ascii", "found a byte beyond ASCII"))
        }
        TextEncoding::Ascii | TextEncoding::Utf8 => match std::str::from_utf8(data) {
            Ok(text) => Ok(Value::from(text)),
            Err(error) => Err(ProtocolError::decode("utf-8", error)),
        },
    }
}
