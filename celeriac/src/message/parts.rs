//! A message in its parts, so that headers and properties can be shared while the body is still encoded.

use super::body::TaskBody;
use super::{Accept, Body, Headers, Message, Properties, ProtocolError};
use crate::heavy::LARGE;

/// A message's body as it came, and how it is to be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EncodedBody {
    /// A message without headers, but for the compression, and without properties.
    message: Message,
}

impl EncodedBody {
    /// The task body, whichever protocol it is in.
    ///
    /// # Errors
    /// As [`Message::body`].
    pub fn decode(&self, accept: &Accept) -> Result<Body, ProtocolError> {
        self.message.body(accept)
    }

    /// Whether decoding it may take long.
    pub(crate) fn is_large(&self) -> bool {
        self.message.is_large()
    }

    /// The task body, if it is one of protocol 2.
    pub(crate) fn decode_triple(&self, accept: &Accept) -> Result<Option<Body>, ProtocolError> {
        match self.message.task_body(accept)? {
            TaskBody::Triple(body) => Ok(Some(body)),
            TaskBody::Object(_) => Ok(None),
        }
    }
}

impl Message {
    /// Whether decoding the body may take long: nobody knows how much a compressed one holds.
    pub(crate) fn is_large(&self) -> bool {
        self.headers.compression.is_some() || self.body.len() > LARGE
    }

    /// The headers, the properties and the body.
    pub(crate) fn into_parts(mut self) -> (Headers, Properties, EncodedBody) {
        let headers = std::mem::take(&mut self.headers);
        let properties = std::mem::take(&mut self.properties);
        self.headers.compression.clone_from(&headers.compression);
        (headers, properties, EncodedBody { message: self })
    }

    /// The message of those parts.
    pub(crate) fn from_parts(headers: Headers, properties: Properties, body: EncodedBody) -> Self {
        Message { headers, properties, ..body.message }
    }
}
