use super::Value;

/// Longest piece of a wrong value that an error text shows, in characters.
const SHOWN: usize = 120;

/// What is wrong with bytes that were to be a message, or with a value that was to become one.
///
/// None of these goes away by trying again: a message that gives such an error is rejected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The bytes are not JSON.
    #[error("not JSON: {reason} at byte {position} of {text}")]
    NotJson {
        /// What the parser expected.
        reason: String,
        /// Offset of the offending byte.
        position: usize,
        /// The beginning of the text.
        text: String,
    },
    /// A field of the envelope is missing or of a wrong type.
    #[error("bad envelope: {field} is {found}{}", origin(.id, .task))]
    BadEnvelope {
        /// Path of the field, such as `properties.delivery_tag`.
        field: &'static str,
        /// What stands there, or `missing`.
        found: String,
        /// Task id, when it could be read.
        id: Option<String>,
        /// Task name, when it could be read.
        task: Option<String>,
    },
    /// A header that Celery defines has a value of a wrong type.
    #[error("bad header {name}: expected {expected}, found {found}{}", origin(.id, .task))]
    BadHeader {
        /// Name of the header.
        name: String,
        /// What may stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
        /// Task id, when it could be read.
        id: Option<String>,
        /// Task name, when it could be read.
        task: Option<String>,
    },
    /// The body is of a type that `accept_content` does not list.
    #[error(
        "refusing to deserialize content of type {content_type}\nhint: list its serializer in accept_content, \
         unless it is pickle, which is never decoded"
    )]
    ContentDisallowed {
        /// Mime type of the body.
        content_type: String,
    },
    /// No serializer has that name or mime type.
    #[error("no serializer {name}\nhint: json, yaml, msgpack and raw are known; pickle is refused")]
    UnknownSerializer {
        /// Name or mime type.
        name: String,
    },
    /// Text is in an encoding that is not known.
    #[error("unknown {field} {encoding}")]
    UnknownEncoding {
        /// `content-encoding` or `body_encoding`.
        field: &'static str,
        /// The encoding that was named.
        encoding: String,
    },
    /// No compression has that name or mime type.
    #[error("unknown compression {name}\nhint: gzip, bzip2, lzma, brotli and zstd are known")]
    UnknownCompression {
        /// Name or mime type.
        name: String,
    },
    /// The bytes are not what their type or encoding says.
    #[error("cannot decode {what}: {reason}")]
    Decode {
        /// Serializer, encoding or typed value.
        what: String,
        /// Why not.
        reason: String,
    },
    /// A signed or encrypted body is not what its sender wrote, or of a sender who is not known.
    #[error("refusing a body that cannot be trusted: {reason}")]
    NotTrusted {
        /// Why.
        reason: String,
    },
    /// A setting for signed or encrypted messages is missing or wrong.
    #[error("cannot sign or encrypt: {setting} {reason}")]
    Security {
        /// Name of the setting.
        setting: &'static str,
        /// What is wrong with it; keys and passwords are not shown.
        reason: String,
    },
    /// The serializer has no form for the value.
    #[error("cannot encode {what}: {reason}")]
    Encode {
        /// Serializer or compression.
        what: String,
        /// Why not.
        reason: String,
    },
    /// The decompressed body is longer than allowed.
    #[error("decompressed body is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body is longer than allowed.
    #[error(
        "the body has {size} bytes, more than the {limit} that are read\nhint: celeriac_max_body_bytes sets the bound"
    )]
    BodyTooLarge {
        /// Its length in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Lists and objects are nested deeper than allowed.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// The body is not that of a task.
    #[error("bad task body: expected {expected}, found {found}")]
    BadBody {
        /// What should stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A value is not a signature.
    #[error("bad signature: {field} should be {expected}, found {found}")]
    BadSignature {
        /// Key of the signature, or `signature` for the whole.
        field: &'static str,
        /// What should stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A typed value (`{"__type__": ..., "__value__": ...}`) of a type that kombu does not know.
    #[error("unknown __type__ {name} in typed JSON value")]
    UnknownType {
        /// The type that was named.
        name: String,
    },
    /// A time cannot be read.
    #[error("bad time in {field}: expected ISO 8601 text, found {found}")]
    BadTime {
        /// Where the time stands.
        field: String,
        /// What stands there.
        found: String,
    },
}

impl ProtocolError {
    /// Id of the task whose message this is, when it could still be read.
    pub fn task_id(&self) -> Option<&str> {
        match self {
            ProtocolError::BadEnvelope { id, .. } | ProtocolError::BadHeader { id, .. } => id.as_deref(),
            _ => None,
        }
    }

    /// Name of the task whose message this is, when it could still be read.
    pub fn task_name(&self) -> Option<&str> {
        match self {
            ProtocolError::BadEnvelope { task, .. } | ProtocolError::BadHeader { task, .. } => {
                task.as_deref()
            }
            _ => None,
        }
    }

    pub(super) fn decode(what: impl Into<String>, reason: impl ToString) -> Self {
        ProtocolError::Decode { what: what.into(), reason: reason.to_string() }
    }

    pub(super) fn encode(what: impl Into<String>, reason: impl ToString) -> Self {
        ProtocolError::Encode { what: what.into(), reason: reason.to_string() }
    }

    /// A text that only JSON can carry.
    pub(super) fn lone_surrogate(what: &str, text: &Value) -> Self {
        Self::encode(
            what,
            format!("the text {} has a lone surrogate, which only json and yaml can carry", shown(text)),
        )
    }

    /// A body that is JSON and yet not what it should be.
    pub(crate) fn bad_body(reason: impl ToString) -> Self {
        ProtocolError::decode("body", reason)
    }

    pub(super) fn bad_task_body(expected: &'static str, found: &Value) -> Self {
        ProtocolError::BadBody { expected, found: shown(found) }
    }
}

/// The value as an error text shows it: its Python `repr`, cut.
pub(super) fn shown(value: &Value) -> String {
    shorten(&super::repr::saferepr(value, SHOWN, 3))
}

/// The text, cut to what an error text shows.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn origin(id: &Option<String>, task: &Option<String>) -> String {
    match (task, id) {
        (Some(task), Some(id)) => format!(" (task {task}[{id}])"),
        (Some(task), None) => format!(" (task {task})"),
        (None, Some(id)) => format!(" (task id {id})"),
        (None, None) => String::new(),
    }
}
