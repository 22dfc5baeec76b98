//! The wire format: bytes to types and back, without any input or output.

pub mod codec;
pub mod compression;
pub mod envelope;
pub mod headers;
pub mod json;
pub mod repr;
pub mod serializer;

mod body;
mod error;
mod identity;
mod iso8601;
mod msgpack;
mod parts;
mod protocol1;
mod reader;
mod redelivered;
mod remains;
mod signature;
pub(crate) mod surrogates;
mod typed;
mod value;
mod value_serde;
mod yaml;

pub use codec::{Codec, Codecs};
pub use envelope::BodyEncoding;
pub use error::ProtocolError;
pub use headers::{format_iso8601, parse_iso8601};
pub use parts::EncodedBody;
pub(crate) use parts::Parts;
pub(crate) use remains::Remains;
pub(crate) use repr::repr_list;
pub use repr::{repr, repr_args, repr_kwargs};
pub use serializer::Accept;

pub use crate::config::{Compression, Serializer};
pub use surrogates::Surrogates;
pub use value::{Map, Value};
pub use value_serde::{ValueError, from_value, from_value_ref, to_value};

use bytes::Bytes;

/// A message as a broker carries it: headers and properties decoded, the body still in its serializer's bytes.
///
/// The same shape serves tasks, remote control and events; they differ in their headers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Task, control or event headers.
    pub headers: Headers,
    /// Delivery properties.
    pub properties: Properties,
    /// Mime type of the body, such as `application/json`.
    pub content_type: String,
    /// Encoding of the body: `utf-8` for text serializers, else `binary`.
    pub content_encoding: String,
    /// The serialized (and possibly compressed) body; the transport's base64 is undone.
    pub body: Bytes,
}

/// Message headers: those of task protocol 2 by name, all others in `extra`.
///
/// Source: celery 5.7 `docs/internals/protocol.rst`, `celery/app/amqp.py`; samples `vectors/messages`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers {
    /// Language of the sender, `py` on everything that Celery sends.
    pub lang: Option<String>,
    /// Task name; its presence selects protocol 2.
    pub task: Option<String>,
    /// Task id.
    pub id: Option<String>,
    /// Name shown in logs and events instead of `task`.
    pub shadow: Option<String>,
    /// Not-before time: ISO 8601 text, or whatever a broken client sent.
    pub eta: Option<Value>,
    /// Time after which the task is not run; a number in control messages.
    pub expires: Option<Value>,
    /// Group id.
    pub group: Option<String>,
    /// Position in the group.
    pub group_index: Option<i64>,
    /// How often the task was retried before; 0 on the first run.
    pub retries: u32,
    /// Hard and soft limit, in that order on the wire.
    pub timelimit: TimeLimit,
    /// First task of the workflow.
    pub root_id: Option<String>,
    /// Task that sent this one.
    pub parent_id: Option<String>,
    /// Python `repr` of the positional arguments, for display.
    pub argsrepr: Option<String>,
    /// Python `repr` of the keyword arguments, for display.
    pub kwargsrepr: Option<String>,
    /// Node that sent the message.
    pub origin: Option<String>,
    /// Whether the result is dropped; `None` leaves it to the task.
    pub ignore_result: Option<bool>,
    /// Depth of `Task.replace`.
    pub replaced_task_nesting: u32,
    /// Names of the stamps.
    pub stamped_headers: Option<Vec<String>>,
    /// Stamp values by name.
    pub stamps: Map,
    /// Mime type of the body's compression.
    pub compression: Option<String>,
    /// Set when the message was delivered before and came back.
    pub redelivered: bool,
    /// Every other header, kept as it came.
    pub extra: Map,
}

/// Time limits of one task, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TimeLimit {
    /// The task is ended after this time.
    pub hard: Option<f64>,
    /// The task is told after this time.
    pub soft: Option<f64>,
}

/// Delivery properties; those that kombu's virtual transport and AMQP share.
///
/// Source: kombu 5.7 `kombu/transport/virtual/base.py`; samples `vectors/messages`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// The task id of a task message or of its reply.
    pub correlation_id: Option<String>,
    /// Queue for replies, empty or absent when none is wanted.
    pub reply_to: Option<String>,
    /// 2 for persistent, 1 for transient messages.
    pub delivery_mode: u8,
    /// Where the message was published to.
    pub delivery_info: DeliveryInfo,
    /// 0 to 9; on Redis the lower number is served first, `None` over AMQP when not given.
    pub priority: Option<u8>,
    /// Name of this delivery for acknowledgement.
    pub delivery_tag: String,
    /// Milliseconds after which a broker may drop the message, as text.
    pub expiration: Option<String>,
    /// Every other property, kept as it came.
    pub extra: Map,
}

/// Where a message was published to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeliveryInfo {
    /// Exchange name; empty for a message sent straight to a queue.
    pub exchange: String,
    /// Routing key; the queue name when the exchange is empty.
    pub routing_key: String,
    /// Set when the message was delivered before and came back.
    pub redelivered: bool,
}

/// A decoded task body: the call and what is to follow it.
///
/// On the wire `[args, kwargs, {"callbacks", "errbacks", "chain", "chord"}]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map,
    /// What follows the call.
    pub embed: Embed,
}

/// The signatures that a task message carries along.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embed {
    /// Signatures applied with the result (`link`).
    pub callbacks: Vec<Signature>,
    /// Signatures applied on failure (`link_error`).
    pub errbacks: Vec<Signature>,
    /// The rest of the chain in reverse order: the next step is the last element.
    pub chain: Vec<Signature>,
    /// The body of the chord whose header this task is a part of.
    pub chord: Option<Box<Signature>>,
}

/// A task call as data.
///
/// Source: celery 5.7 `celery/canvas.py`; sample `vectors/messages/signatures.json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signature {
    /// Task name, or `celery.chain`, `celery.group`, `celery.chord`, ...
    pub task: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments; the members of a chain, group or chord stand here.
    pub kwargs: Map,
    /// Options of `apply_async` and the ids given by freezing.
    pub options: Map,
    /// `chain`, `group`, `chord`, or none for a plain task.
    pub subtask_type: Option<String>,
    /// Whether partial arguments are ignored.
    pub immutable: bool,
}
