//! A message in its parts, which those who hold it share while the body is still encoded.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::body::TaskBody;
use super::{Accept, Body, Compression, Headers, Message, Properties, ProtocolError};
use crate::heavy::LARGE;

/// The parts of a message; cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Parts {
    pub(crate) headers: Arc<Headers>,
    pub(crate) properties: Arc<Properties>,
    pub(crate) body: Arc<EncodedBody>,
}

impl From<Message> for Parts {
    fn from(message: Message) -> Self {
        let Message { headers, properties, content_type, content_encoding, body } = message;
        let compression = headers.compression.clone();
        let body = EncodedBody { content_type, content_encoding, compression, bytes: body };
        Self { headers: headers.into(), properties: properties.into(), body: body.into() }
    }
}

impl Parts {
    /// The message as it came.
    pub(crate) fn message(&self) -> Message {
        Message {
            headers: (*self.headers).clone(),
            properties: (*self.properties).clone(),
            content_type: self.body.content_type.clone(),
            content_encoding: self.body.content_encoding.clone(),
            body: self.body.bytes.clone(),
        }
    }
}

/// A message's body as it came, and how it is to be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EncodedBody {
    content_type: String,
    content_encoding: String,
    compression: Option<String>,
    bytes: Bytes,
}

impl EncodedBody {
    /// The task body, whichever protocol it is in.
    ///
    /// # Errors
    /// As [`Message::body`].
    pub fn decode(&self, accept: &Accept) -> Result<Body, ProtocolError> {
        self.encoded().task_body(accept)?.into_body()
    }

    /// Returns its size as it came, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether decoding it may take long.
    pub(crate) fn is_large(&self) -> bool {
        self.encoded().is_large()
    }

    /// The task body, if it is one of protocol 2.
    pub(crate) fn decode_triple(&self, accept: &Accept) -> Result<Option<Body>, ProtocolError> {
        match self.encoded().task_body(accept)? {
            TaskBody::Triple(body) => Ok(Some(body)),
            TaskBody::Object(_) => Ok(None),
        }
    }

    pub(super) fn encoded(&self) -> Encoded<'_> {
        Encoded {
            content_type: &self.content_type,
            content_encoding: &self.content_encoding,
            compression: self.compression.as_deref(),
            bytes: &self.bytes,
        }
    }
}

/// The bytes of a body and what says how they are to be read.
#[derive(Clone, Copy)]
pub(super) struct Encoded<'a> {
    pub(super) content_type: &'a str,
    pub(super) content_encoding: &'a str,
    compression: Option<&'a str>,
    bytes: &'a [u8],
}

impl<'a> Encoded<'a> {
    pub(super) fn of(message: &'a Message) -> Self {
        Self {
            content_type: &message.content_type,
            content_encoding: &message.content_encoding,
            compression: message.headers.compression.as_deref(),
            bytes: &message.body,
        }
    }

    /// Whether decoding it may take long: nobody knows how much a compressed one holds.
    fn is_large(self) -> bool {
        self.compression.is_some() || self.bytes.len() > LARGE
    }

    pub(super) fn uncompressed(self, accept: &Accept) -> Result<Cow<'a, [u8]>, ProtocolError> {
        accept.check_size(self.bytes.len())?;
        match self.compression {
            None | Some("") => Ok(Cow::Borrowed(self.bytes)),
            Some(name) => Compression::from_name(name)?
                .decompress(self.bytes, accept.max_decompressed_bytes())
                .map(Cow::Owned),
        }
    }
}
