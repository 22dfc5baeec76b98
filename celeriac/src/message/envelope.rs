//! kombu's envelope: a whole message as one JSON text, as the Redis transport keeps it.
//!
//! Source: kombu 5.7 `kombu/transport/virtual/base.py`, `kombu/transport/redis.py`; samples `vectors/messages`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiter::Peek;

use super::error::{ProtocolError, shown};
use super::headers::{HeaderName, WrongType};
use super::json::{self, Reader};
use super::{DeliveryInfo, Headers, Message, Properties, Value};

/// How the body stands in the envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyEncoding {
    /// Base64, kombu's default.
    #[default]
    Base64,
    /// As text (`broker_transport_options` `body_encoding` null); a body that is not UTF-8 is base64 all the same.
    Text,
}

/// Reads a queue entry.
///
/// # Errors
/// The entry is not JSON, lacks a part that every message has, or has a part of a wrong type; the error names the
/// task and its id when these could be read.
pub fn decode(raw: &[u8]) -> Result<Message, ProtocolError> {
    let mut reader = Reader::new(raw);
    let mut parts = Parts::default();
    if reader.peek()? != Peek::Object {
        let found = reader.next_value()?;
        return Err(ProtocolError::BadEnvelope {
            field: "envelope",
            found: shown(&found),
            id: None,
            task: None,
        });
    }
    let mut next = reader.first_key(Part::of)?;
    while let Some(part) = next {
        parts.read(part, &mut reader, raw)?;
        next = reader.next_key(Part::of)?;
    }
    reader.finish()?;
    parts.finish()
}

/// Writes a queue entry, its body in base64.
pub fn encode(message: &Message) -> Vec<u8> {
    encode_with(message, BodyEncoding::Base64)
}

/// Writes a queue entry.
pub fn encode_with(message: &Message, encoding: BodyEncoding) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024 + message.body.len() * 4 / 3);
    let text = match encoding {
        BodyEncoding::Base64 => None,
        BodyEncoding::Text => std::str::from_utf8(&message.body).ok(),
    };
    out.extend_from_slice(b"{\"body\": ");
    match text {
        Some(text) => json::write_str(text, &mut out),
        None => write_base64(&message.body, &mut out),
    }
    out.extend_from_slice(b", \"content-encoding\": ");
    json::write_str(&message.content_encoding, &mut out);
    out.extend_from_slice(b", \"content-type\": ");
    json::write_str(&message.content_type, &mut out);
    out.extend_from_slice(b", \"headers\": ");
    message.headers.write(&mut out);
    out.extend_from_slice(b", \"properties\": ");
    message.properties.write(text.is_none(), &mut out);
    out.push(b'}');
    out
}

/// Marks a queue entry as delivered before, as kombu does when it puts one back; nothing else in it changes.
///
/// # Errors
/// The entry is not a JSON object.
pub fn mark_redelivered(raw: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    let mut reader = Reader::new(raw);
    let mut edits = Vec::new();
    if reader.peek()? != Peek::Object {
        let found = reader.next_value()?;
        return Err(ProtocolError::BadEnvelope {
            field: "envelope",
            found: shown(&found),
            id: None,
            task: None,
        });
    }
    let mut next = reader.first_key(Part::of)?;
    while let Some(part) = next {
        match part {
            Part::Headers => mark_object(&mut reader, &mut edits)?,
            Part::Properties if reader.peek()? == Peek::Object => {
                let mut name = reader.first_key(|key| key == "delivery_info")?;
                while let Some(is_delivery_info) = name {
                    if is_delivery_info {
                        mark_object(&mut reader, &mut edits)?
                    } else {
                        reader.skip()?
                    }
                    name = reader.next_key(|key| key == "delivery_info")?;
                }
            }
            _ => reader.skip()?,
        }
        next = reader.next_key(Part::of)?;
    }
    reader.finish()?;
    Ok(apply(raw, &edits))
}

/// A piece of the text to be replaced.
struct Edit {
    start: usize,
    end: usize,
    text: &'static [u8],
}

fn mark_object(reader: &mut Reader<'_>, edits: &mut Vec<Edit>) -> Result<(), ProtocolError> {
    if reader.peek()? != Peek::Object {
        return reader.skip();
    }
    let mut found = false;
    let mut empty = true;
    let mut next = reader.first_key(|key| key == "redelivered")?;
    while let Some(is_redelivered) = next {
        empty = false;
        reader.peek()?;
        let start = reader.index();
        reader.skip()?;
        if is_redelivered {
            found = true;
            edits.push(Edit { start, end: reader.index(), text: b"true" });
        }
        next = reader.next_key(|key| key == "redelivered")?;
    }
    if !found {
        let brace = reader.index() - 1;
        let text: &[u8] = if empty { b"\"redelivered\": true" } else { b", \"redelivered\": true" };
        edits.push(Edit { start: brace, end: brace, text });
    }
    Ok(())
}

fn apply(raw: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + 48);
    let mut done = 0;
    for edit in edits {
        out.extend_from_slice(&raw[done..edit.start]);
        out.extend_from_slice(edit.text);
        done = edit.end;
    }
    out.extend_from_slice(&raw[done..]);
    out
}

fn write_base64(body: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + body.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(body, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

/// The keys of an envelope.
enum Part {
    Body,
    ContentType,
    ContentEncoding,
    Headers,
    Properties,
    Other,
}

impl Part {
    fn of(key: &str) -> Self {
        match key {
            "body" => Part::Body,
            "content-type" => Part::ContentType,
            "content-encoding" => Part::ContentEncoding,
            "headers" => Part::Headers,
            "properties" => Part::Properties,
            _ => Part::Other,
        }
    }
}

/// What has been read of an envelope. A part of a wrong type is remembered and the rest read on, so that the error
/// can name the task.
#[derive(Default)]
struct Parts<'a> {
    message: Message,
    /// The text between the quotes, escapes and all, when it has none.
    body: Option<std::borrow::Cow<'a, [u8]>>,
    body_encoding: Option<String>,
    has_delivery_tag: bool,
    wrong: Option<Wrong>,
}

enum Wrong {
    Field(&'static str, String),
    Header(String, WrongType),
}

impl<'a> Parts<'a> {
    fn read(&mut self, part: Part, reader: &mut Reader<'a>, raw: &'a [u8]) -> Result<(), ProtocolError> {
        let peek = reader.peek()?;
        match part {
            Part::Body if peek == Peek::String => {
                let start = reader.index() + 1;
                let text = reader.text()?;
                let length = text.len();
                let unescaped = raw.get(start..start + length) == Some(text.as_bytes());
                self.body = Some(if unescaped {
                    raw[start..start + length].into()
                } else {
                    text.as_bytes().to_vec().into()
                });
            }
            Part::Headers if peek == Peek::Object => self.read_headers(reader)?,
            Part::Properties if peek == Peek::Object => self.read_properties(reader)?,
            Part::ContentType => self.message.content_type = self.text("content-type", reader.value(peek)?),
            Part::ContentEncoding => {
                self.message.content_encoding = self.text("content-encoding", reader.value(peek)?)
            }
            Part::Other => reader.skip()?,
            Part::Body => self.wrong("body", &reader.value(peek)?),
            Part::Headers => self.wrong("headers", &reader.value(peek)?),
            Part::Properties => self.wrong("properties", &reader.value(peek)?),
        }
        Ok(())
    }

    fn read_headers(&mut self, reader: &mut Reader<'a>) -> Result<(), ProtocolError> {
        let mut next = reader.first_key(HeaderName::of)?;
        while let Some(name) = next {
            let value = reader.next_value()?;
            let known = if matches!(name, HeaderName::Other(_)) { None } else { Some(name.clone()) };
            if let Err(mismatch) = self.message.headers.set(name, value) {
                let name = known.map_or_else(String::new, |name| name.as_str().to_owned());
                self.wrong.get_or_insert(Wrong::Header(name, mismatch));
            }
            next = reader.next_key(HeaderName::of)?;
        }
        Ok(())
    }

    fn read_properties(&mut self, reader: &mut Reader<'a>) -> Result<(), ProtocolError> {
        let mut next = reader.first_key(PropertyName::of)?;
        while let Some(name) = next {
            if matches!(name, PropertyName::DeliveryInfo) && reader.peek()? == Peek::Object {
                self.read_delivery_info(reader)?;
            } else {
                let value = reader.next_value()?;
                self.set_property(name, value);
            }
            next = reader.next_key(PropertyName::of)?;
        }
        Ok(())
    }

    fn read_delivery_info(&mut self, reader: &mut Reader<'a>) -> Result<(), ProtocolError> {
        let name = |key: &str| match key {
            "exchange" => 0,
            "routing_key" => 1,
            "redelivered" => 2,
            _ => 3,
        };
        let mut next = reader.first_key(name)?;
        while let Some(field) = next {
            match (field, reader.next_value()?) {
                (0, value) => {
                    self.message.properties.delivery_info.exchange =
                        self.text("properties.delivery_info.exchange", value);
                }
                (1, value) => {
                    self.message.properties.delivery_info.routing_key =
                        self.text("properties.delivery_info.routing_key", value);
                }
                (2, value) => self.message.properties.delivery_info.redelivered = value == Value::Bool(true),
                _ => {}
            }
            next = reader.next_key(name)?;
        }
        Ok(())
    }

    fn set_property(&mut self, name: PropertyName, value: Value) {
        match name {
            PropertyName::CorrelationId => {
                self.message.properties.correlation_id =
                    self.optional_text("properties.correlation_id", value);
            }
            PropertyName::ReplyTo => {
                self.message.properties.reply_to = self.optional_text("properties.reply_to", value)
            }
            PropertyName::DeliveryMode => {
                self.message.properties.delivery_mode =
                    value.as_i64().and_then(|mode| mode.try_into().ok()).unwrap_or(2);
            }
            PropertyName::DeliveryInfo if value.is_null() => {
                self.message.properties.delivery_info = DeliveryInfo::default()
            }
            PropertyName::DeliveryInfo => self.wrong("properties.delivery_info", &value),
            PropertyName::Priority => self.message.properties.priority = priority(&value),
            PropertyName::DeliveryTag => {
                self.has_delivery_tag = !value.is_null();
                self.message.properties.delivery_tag = match value {
                    Value::Int(tag) => tag.to_string(),
                    other => self.text("properties.delivery_tag", other),
                };
            }
            PropertyName::Expiration => {
                self.message.properties.expiration = match value {
                    Value::Int(milliseconds) => Some(milliseconds.to_string()),
                    other => self.optional_text("properties.expiration", other),
                };
            }
            PropertyName::BodyEncoding => {
                self.body_encoding = self.optional_text("properties.body_encoding", value)
            }
            PropertyName::Other(name) => {
                self.message.properties.extra.insert(name, value);
            }
        }
    }

    fn text(&mut self, field: &'static str, value: Value) -> String {
        self.optional_text(field, value).unwrap_or_default()
    }

    fn optional_text(&mut self, field: &'static str, value: Value) -> Option<String> {
        match value {
            Value::Null => None,
            Value::Str(text) => Some(text),
            other => {
                self.wrong(field, &other);
                None
            }
        }
    }

    fn wrong(&mut self, field: &'static str, found: &Value) {
        if self.wrong.is_none() {
            self.wrong = Some(Wrong::Field(field, shown(found)));
        }
    }

    fn finish(mut self) -> Result<Message, ProtocolError> {
        if !self.has_delivery_tag && self.wrong.is_none() {
            self.wrong = Some(Wrong::Field("properties.delivery_tag", "missing".to_owned()));
        }
        match self.wrong {
            None => {}
            Some(Wrong::Header(name, mismatch)) => {
                return Err(self.message.headers.bad_header(name, mismatch));
            }
            Some(Wrong::Field(field, found)) => {
                let Headers { id, task, .. } = self.message.headers;
                return Err(ProtocolError::BadEnvelope { field, found, id, task });
            }
        }
        let body = self.body.unwrap_or_default();
        self.message.body = match self.body_encoding.as_deref() {
            Some("base64") => match STANDARD.decode(&body) {
                Ok(bytes) => bytes.into(),
                Err(error) => {
                    let Headers { id, task, .. } = self.message.headers;
                    return Err(ProtocolError::BadEnvelope {
                        field: "body",
                        found: format!("not base64: {error}"),
                        id,
                        task,
                    });
                }
            },
            None | Some("" | "utf-8" | "utf8") => Bytes::from(body.into_owned()),
            Some(encoding) => {
                return Err(ProtocolError::UnknownEncoding {
                    field: "body_encoding",
                    encoding: super::error::shorten(encoding),
                });
            }
        };
        Ok(self.message)
    }
}

/// kombu takes what `int()` takes and 0 for all else.
fn priority(value: &Value) -> Option<u8> {
    match value {
        Value::Null => None,
        Value::Str(text) => Some(text.trim().parse::<i64>().unwrap_or(0).clamp(0, 255) as u8),
        other => Some(other.as_f64().unwrap_or(0.0).clamp(0.0, 255.0) as u8),
    }
}

enum PropertyName {
    CorrelationId,
    ReplyTo,
    DeliveryMode,
    DeliveryInfo,
    Priority,
    DeliveryTag,
    Expiration,
    BodyEncoding,
    Other(String),
}

impl PropertyName {
    fn of(key: &str) -> Self {
        match key {
            "correlation_id" => PropertyName::CorrelationId,
            "reply_to" => PropertyName::ReplyTo,
            "delivery_mode" => PropertyName::DeliveryMode,
            "delivery_info" => PropertyName::DeliveryInfo,
            "priority" => PropertyName::Priority,
            "delivery_tag" => PropertyName::DeliveryTag,
            "expiration" => PropertyName::Expiration,
            "body_encoding" => PropertyName::BodyEncoding,
            _ => PropertyName::Other(key.to_owned()),
        }
    }
}

impl Properties {
    /// Appends the properties as kombu writes them.
    fn write(&self, base64: bool, out: &mut Vec<u8>) {
        out.push(b'{');
        if self.correlation_id.is_some() || self.reply_to.is_some() {
            if let Some(correlation_id) = &self.correlation_id {
                write_key("correlation_id", out);
                json::write_str(correlation_id, out);
                out.extend_from_slice(b", ");
            }
            write_key("reply_to", out);
            json::write_str(self.reply_to.as_deref().unwrap_or_default(), out);
            out.extend_from_slice(b", ");
        }
        if let Some(expiration) = &self.expiration {
            write_key("expiration", out);
            json::write_str(expiration, out);
            out.extend_from_slice(b", ");
        }
        for (name, value) in &self.extra {
            write_key(name, out);
            json::write(value, out);
            out.extend_from_slice(b", ");
        }
        write_key("delivery_mode", out);
        json::write_int(if self.delivery_mode == 0 { 2 } else { self.delivery_mode.into() }, out);
        out.extend_from_slice(b", \"delivery_info\": {\"exchange\": ");
        json::write_str(&self.delivery_info.exchange, out);
        out.extend_from_slice(b", \"routing_key\": ");
        json::write_str(&self.delivery_info.routing_key, out);
        if self.delivery_info.redelivered {
            out.extend_from_slice(b", \"redelivered\": true");
        }
        out.extend_from_slice(b"}, \"priority\": ");
        json::write_int(self.priority.unwrap_or(0).into(), out);
        out.extend_from_slice(if base64 {
            b", \"body_encoding\": \"base64\""
        } else {
            b", \"body_encoding\": null"
        });
        out.extend_from_slice(b", \"delivery_tag\": ");
        json::write_str(&self.delivery_tag, out);
        out.push(b'}');
    }
}

fn write_key(name: &str, out: &mut Vec<u8>) {
    json::write_str(name, out);
    out.extend_from_slice(b": ");
}
