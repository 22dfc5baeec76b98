//! The claim of a complete chord.

use redis::Cmd;

use crate::backend::ChordPart;
use crate::backend::redis::RedisBackend;
use crate::canvas;
use crate::message::{Body, Headers, Message, Properties, Serializer, envelope};
use crate::task::Request;

/// A chord's part and the token under which it claims the chord.
#[derive(Clone)]
pub(in crate::worker) struct Claim {
    pub(in crate::worker) part: ChordPart,
    pub(in crate::worker) token: String,
    /// The request of the part, without its arguments.
    pub(super) completing: Vec<u8>,
    /// Whether the part may be a late copy of one that was counted.
    pub(super) redelivered: bool,
}

impl Claim {
    pub(in crate::worker) fn new(part: ChordPart, request: Option<&Request>) -> Self {
        let completing = request.map(|request| completing(&part, request)).unwrap_or_default();
        let redelivered = request.is_none_or(Request::redelivered);
        Self { part, token: canvas::random_id(), completing, redelivered }
    }

    /// The command that returns the part and claims the chord if it is complete.
    pub(in crate::worker) fn command(&self, backend: &RedisBackend) -> Cmd {
        backend.chord_part_command(&self.part, &self.token, &self.completing, self.redelivered)
    }
}

/// The part as a message, from which any worker can go on: the headers of its request, and the chord's body.
fn completing(part: &ChordPart, request: &Request) -> Vec<u8> {
    let mut headers = Headers::clone(&request.headers);
    headers.id = Some(part.task_id.clone());
    headers.group = Some(part.group_id.clone());
    let properties = Properties::clone(&request.properties);
    let mut message = Message { headers, properties, ..Message::default() };
    let mut body = Body::default();
    body.embed.chord = Some(Box::new(part.body.clone()));
    match message.set_body(&body, Serializer::Json, None) {
        Ok(()) => envelope::encode(&message),
        // A signature that came out of a message goes into one.
        Err(error) => {
            log::error!(group_id = part.group_id.as_str(), error:% = error; "Chord {} cannot be registered: {error}", part.group_id);
            Vec::new()
        }
    }
}
