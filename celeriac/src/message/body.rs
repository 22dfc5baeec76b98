//! Task bodies: the call and what is to follow it.

use std::sync::OnceLock;

use super::codec::{Codec, Content};
use super::error::ProtocolError;
use super::headers::WrongType;
use super::json;
use super::parts::Encoded;
use super::protocol1;
use super::reader::{Fallible, Kind, Reader};
use super::repr;
use super::serializer::Accept;
use super::{Body, Compression, Embed, Headers, Map, Message, Properties, Serializer, Signature, Value};

const TRIPLE: &str = "[args, kwargs, embed]";

impl Message {
    /// A task message of protocol 2 as Celery's client makes it; what is not given is set as the client sets it.
    ///
    /// The delivery tag is fresh; where it is published to (`properties.delivery_info`) is the broker's to fill in.
    ///
    /// # Errors
    /// The serializer has no form for one of the arguments.
    pub fn task(
        name: impl Into<String>,
        id: impl Into<String>,
        body: Body,
        codec: impl Into<Codec>,
        compression: Option<Compression>,
    ) -> Result<Message, ProtocolError> {
        let id = id.into();
        let codec = codec.into();
        let is_secret = codec.wrapper.as_ref().is_some_and(|wrapper| wrapper.is_secret());
        let shown = |text: fn(&Body) -> String| if is_secret { String::new() } else { text(&body) };
        let headers = Headers {
            lang: Some("py".to_owned()),
            task: Some(name.into()),
            root_id: Some(id.clone()),
            argsrepr: Some(shown(|body| repr::repr_args(&body.args))),
            kwargsrepr: Some(shown(|body| repr::repr_kwargs(&body.kwargs))),
            origin: Some(origin().to_owned()),
            ignore_result: Some(false),
            id: Some(id.clone()),
            ..Headers::default()
        };
        let properties = Properties {
            correlation_id: Some(id),
            delivery_mode: 2,
            priority: Some(0),
            delivery_tag: uuid::Uuid::new_v4().to_string(),
            ..Properties::default()
        };
        let mut message = Message { headers, properties, ..Message::default() };
        message.set_body(&body, codec, compression)?;
        Ok(message)
    }

    /// Replaces the body, its types and the header `compression`.
    ///
    /// # Errors
    /// The serializer has no form for one of the arguments.
    pub fn set_body(
        &mut self,
        body: &Body,
        codec: impl Into<Codec>,
        compression: Option<Compression>,
    ) -> Result<(), ProtocolError> {
        let codec = codec.into();
        let bytes = match codec.serializer {
            Serializer::Json => {
                let mut out = Vec::with_capacity(128);
                body.write_json(&mut out);
                out
            }
            serializer => serializer.dumps(&body.to_value())?,
        };
        self.set_bytes(bytes, &codec, compression)
    }

    /// Replaces the body by any value, its types and the header `compression`.
    ///
    /// # Errors
    /// The serializer has no form for the value.
    pub fn set_payload(
        &mut self,
        payload: &Value,
        codec: impl Into<Codec>,
        compression: Option<Compression>,
    ) -> Result<(), ProtocolError> {
        let codec = codec.into();
        self.set_bytes(codec.serializer.dumps(payload)?, &codec, compression)
    }

    fn set_bytes(
        &mut self,
        bytes: Vec<u8>,
        codec: &Codec,
        compression: Option<Compression>,
    ) -> Result<(), ProtocolError> {
        let Content { content_type, content_encoding, body } = codec.finish(bytes)?;
        (self.content_type, self.content_encoding) = (content_type, content_encoding);
        self.headers.compression = compression.map(|compression| compression.mime_type().to_owned());
        self.body = match compression {
            Some(compression) => compression.compress(&body)?.into(),
            None => body.into(),
        };
        Ok(())
    }

    /// The body, decompressed and deserialized.
    ///
    /// # Errors
    /// Its type is not in `accept`, or it is not what its type says.
    pub fn payload(&self, accept: &Accept) -> Result<Value, ProtocolError> {
        Encoded::of(self).payload(accept)
    }

    /// The task body, whichever protocol it is in.
    ///
    /// # Errors
    /// As [`Message::payload`]; or the payload is not a task body.
    pub fn body(&self, accept: &Accept) -> Result<Body, ProtocolError> {
        Encoded::of(self).task_body(accept)?.into_body()
    }

    /// The message with headers of protocol 2, and its body: messages of protocol 1 and the hybrid form are upgraded.
    ///
    /// # Errors
    /// As [`Message::body`]; or the message names no task or no id.
    pub fn into_task(mut self, accept: &Accept) -> Result<(Message, Body), ProtocolError> {
        let body = match Encoded::of(&self).task_body(accept)? {
            TaskBody::Triple(body) => body,
            TaskBody::Object(entries) => {
                let (headers, body) = protocol1::upgrade(std::mem::take(&mut self.headers), entries)?;
                self.headers = headers;
                body
            }
        };
        let missing = match &self.headers {
            Headers { task: None, .. } => "task",
            Headers { id: None, .. } => "id",
            _ => return Ok((self, body)),
        };
        let mismatch = WrongType { expected: "text", found: "nothing".to_owned() };
        Err(self.headers.bad_header(missing.to_owned(), mismatch))
    }
}

impl Encoded<'_> {
    pub(super) fn payload(self, accept: &Accept) -> Result<Value, ProtocolError> {
        if let Some(content) = self.unwrapped(accept)? {
            return super::serializer::loads(&content.body, &content.content_type, &content.content_encoding);
        }
        accept.check(self.content_type)?;
        super::serializer::loads(&self.uncompressed(accept)?, self.content_type, self.content_encoding)
    }

    pub(super) fn task_body(self, accept: &Accept) -> Result<TaskBody, ProtocolError> {
        if self.content_type == Serializer::Json.content_type() {
            accept.check(self.content_type)?;
            super::serializer::check_encoding(self.content_encoding)?;
            let bytes = self.uncompressed(accept)?;
            let mut reader = Reader::new(&bytes)?;
            if reader.peek()? == Kind::List {
                let body = read_triple(&mut reader)?;
                reader.finish()?;
                return Ok(TaskBody::Triple(body));
            }
        }
        match self.payload(accept)? {
            Value::Map(entries) if entries.contains_key("args") || entries.contains_key("task") => {
                Ok(TaskBody::Object(entries))
            }
            payload => Body::from_value(payload).map(TaskBody::Triple),
        }
    }

    /// The body that a signed or encrypted one holds; `None` when it is neither.
    fn unwrapped(self, accept: &Accept) -> Result<Option<Content>, ProtocolError> {
        let Some(wrapper) = accept.wrapper(self.content_type) else { return Ok(None) };
        wrapper.unwrap(&self.uncompressed(accept)?).map(Some)
    }
}

pub(super) enum TaskBody {
    Triple(Body),
    /// Protocol 1, or the hybrid of both.
    Object(Map),
}

impl TaskBody {
    pub(super) fn into_body(self) -> Result<Body, ProtocolError> {
        match self {
            TaskBody::Triple(body) => Ok(body),
            TaskBody::Object(mut entries) => Body::take_object(&mut entries),
        }
    }
}

impl Body {
    /// The triple `[args, kwargs, embed]`.
    pub fn to_value(&self) -> Value {
        let signatures = |list: &[Signature]| match list {
            [] => Value::Null,
            list => list.iter().map(Signature::to_value).collect(),
        };
        let embed = [
            ("callbacks", signatures(&self.embed.callbacks)),
            ("errbacks", signatures(&self.embed.errbacks)),
            ("chain", signatures(&self.embed.chain)),
            ("chord", self.embed.chord.as_ref().map_or(Value::Null, |chord| chord.to_value())),
        ];
        let embed = embed.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Value::List(vec![Value::List(self.args.clone()), Value::Map(self.kwargs.clone()), Value::Map(embed)])
    }

    /// Reads the triple `[args, kwargs, embed]`; an embed of null is an empty one.
    ///
    /// # Errors
    /// The value is anything else.
    pub fn from_value(value: Value) -> Result<Self, ProtocolError> {
        let Value::List(items) = value else { return Err(ProtocolError::bad_task_body(TRIPLE, &value)) };
        let count = items.len();
        let Ok([args, kwargs, embed]) = <[Value; 3]>::try_from(items) else { return Err(wrong_count(count)) };
        Ok(Body { args: args_of(args)?, kwargs: kwargs_of(kwargs)?, embed: embed_of(embed)? })
    }

    /// Appends the triple as JSON.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        json::write_list(&self.args, out);
        out.extend_from_slice(b", ");
        json::write_map(&self.kwargs, out);
        out.extend_from_slice(b", {\"callbacks\": ");
        write_signatures(&self.embed.callbacks, out);
        out.extend_from_slice(b", \"errbacks\": ");
        write_signatures(&self.embed.errbacks, out);
        out.extend_from_slice(b", \"chain\": ");
        write_signatures(&self.embed.chain, out);
        out.extend_from_slice(b", \"chord\": ");
        match &self.embed.chord {
            Some(chord) => chord.write_json(out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b"}]");
    }
}

impl Embed {
    /// Takes what stands under that key; other keys than the four are tolerated.
    pub(super) fn set(&mut self, key: &str, value: Value) -> Result<(), ProtocolError> {
        match key {
            "callbacks" => self.callbacks = signatures_of(value)?,
            "errbacks" => self.errbacks = signatures_of(value)?,
            "chain" => self.chain = signatures_of(value)?,
            "chord" if value.is_null() => self.chord = None,
            "chord" => self.chord = Some(Box::new(Signature::take_value(value)?)),
            _ => {}
        }
        Ok(())
    }
}

/// Reads the triple without a value for the whole; what comes next is known to be a list.
fn read_triple(reader: &mut Reader<'_>) -> Fallible<Body> {
    let mut body = Body::default();
    let mut count = 0;
    reader.list(|reader| {
        match count {
            0 => body.args = args_of(reader.value()?)?,
            1 => body.kwargs = kwargs_of(reader.value()?)?,
            2 if reader.peek()? == Kind::Object => {
                reader.object(|reader, key| Ok(body.embed.set(&key, reader.value()?)?))?;
            }
            2 => body.embed = embed_of(reader.value()?)?,
            _ => reader.skip()?,
        }
        count += 1;
        Ok(())
    })?;
    if count == 3 { Ok(body) } else { Err(wrong_count(count).into()) }
}

fn write_signatures(list: &[Signature], out: &mut Vec<u8>) {
    if list.is_empty() {
        out.extend_from_slice(b"null");
        return;
    }
    out.push(b'[');
    for (index, signature) in list.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        signature.write_json(out);
    }
    out.push(b']');
}

pub(super) fn args_of(value: Value) -> Result<Vec<Value>, ProtocolError> {
    match value {
        Value::List(args) => Ok(args),
        other => Err(ProtocolError::bad_task_body("a list of positional arguments", &other)),
    }
}

pub(super) fn kwargs_of(value: Value) -> Result<Map, ProtocolError> {
    match value {
        Value::Map(kwargs) => Ok(kwargs),
        other => Err(ProtocolError::bad_task_body("an object of keyword arguments", &other)),
    }
}

fn embed_of(value: Value) -> Result<Embed, ProtocolError> {
    let entries = match value {
        Value::Null => return Ok(Embed::default()),
        Value::Map(entries) => entries,
        other => {
            return Err(ProtocolError::bad_task_body(
                "an object of callbacks, errbacks, chain and chord",
                &other,
            ));
        }
    };
    let mut embed = Embed::default();
    for (key, value) in entries {
        embed.set(&key, value)?;
    }
    Ok(embed)
}

fn signatures_of(value: Value) -> Result<Vec<Signature>, ProtocolError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::List(items) => items.into_iter().map(Signature::take_value).collect(),
        single @ Value::Map(_) => Ok(vec![Signature::take_value(single)?]),
        other => Err(ProtocolError::bad_task_body("a list of signatures", &other)),
    }
}

fn wrong_count(count: usize) -> ProtocolError {
    ProtocolError::BadBody { expected: TRIPLE, found: format!("a list of {count}") }
}

/// `gen<pid>@<host>`, as Celery's clients name themselves.
fn origin() -> &'static str {
    static ORIGIN: OnceLock<String> = OnceLock::new();
    ORIGIN.get_or_init(|| {
        let host = hostname::get()
            .map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned());
        format!("gen{}@{host}", std::process::id())
    })
}
