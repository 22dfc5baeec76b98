//! kombu's envelope: a whole message as one JSON text, as the Redis transport keeps it.
//!
//! Source: kombu 5.7 `kombu/transport/virtual/base.py`, `kombu/transport/redis.py`; samples `vectors/messages`.

use std::borrow::Cow;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::sync::LazyLock;

use base64::Engine;
use bytes::Bytes;

use super::error::{ProtocolError, shorten, shown};
use super::headers::WrongType;
use super::identity;
use super::json;
use super::reader::{Fallible, Kind, Reader};
use super::surrogates;
use super::{DeliveryInfo, Headers, Message, Properties, Value};

pub use super::redelivered::mark_redelivered;

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
    let mut reader = Reader::new(raw)?;
    expect_object(&mut reader)?;
    let mut parts = Parts::default();
    let read = reader.object(|reader, key| parts.read(&key, reader)).and_then(|()| reader.finish());
    match read {
        Ok(()) => parts.finish(),
        Err(error) => Err(identity::unreadable(*error, raw)),
    }
}

/// Reads what can be read of a queue entry that [`decode`] refuses.
pub(crate) fn remains(raw: &[u8]) -> Message {
    let mut parts = Parts::default();
    if let Ok(mut reader) = Reader::new(raw)
        && expect_object(&mut reader).is_ok()
    {
        // What came before the end is kept.
        let _ = reader.object(|reader, key| parts.read(&key, reader));
    }
    let Parts { mut message, body, body_encoding, .. } = parts;
    message.body = match body_encoding.as_deref() {
        Some("base64") => base64().decode(body.as_bytes()).unwrap_or_default().into(),
        _ => body.into_owned().into_bytes().into(),
    };
    message
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

pub(super) fn expect_object(reader: &mut Reader<'_>) -> Fallible<()> {
    if reader.peek()? == Kind::Object {
        return Ok(());
    }
    let found = shown(&reader.value()?);
    Err(ProtocolError::BadEnvelope { field: "envelope", found, id: None, task: None }.into())
}

/// The fastest engine that this processor has.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn base64() -> &'static impl Engine {
    use base64::engine::{Simd, general_purpose::PAD};
    static ENGINE: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));
    &*ENGINE
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn base64() -> &'static impl Engine {
    &base64::engine::general_purpose::STANDARD
}

fn write_base64(body: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + body.len().div_ceil(3) * 4, 0);
    let written = base64().encode_slice(body, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

/// What has been read of an envelope. A part of a wrong type is remembered and the rest read on, so that the error
/// can name the task.
#[derive(Default)]
struct Parts<'a> {
    message: Message,
    body: Cow<'a, str>,
    body_encoding: Option<Cow<'a, str>>,
    has_delivery_tag: bool,
    wrong: Option<Wrong>,
}

enum Wrong {
    Field(&'static str, String),
    Header(String, WrongType),
}

impl<'a> Parts<'a> {
    fn read(&mut self, key: &str, reader: &mut Reader<'a>) -> Fallible<()> {
        match (key, reader.peek()?) {
            ("body", Kind::Text) => self.body = reader.text()?,
            ("headers", Kind::Object) => reader.object(|reader, name| {
                let value = reader.value()?;
                if let Err(mismatch) = self.message.headers.set(&name, value) {
                    self.wrong.get_or_insert_with(|| Wrong::Header(name.into_owned(), mismatch));
                }
                Ok(())
            })?,
            ("properties", Kind::Object) => reader.object(|reader, name| self.read_property(name, reader))?,
            ("content-type", _) => self.message.content_type = self.text("content-type", reader.value()?),
            ("content-encoding", _) => {
                self.message.content_encoding = self.text("content-encoding", reader.value()?)
            }
            ("body", _) => self.wrong("body", &reader.value()?),
            // Clients of protocol 1 in other languages have none.
            ("headers", Kind::Null) => reader.skip()?,
            ("headers", _) => self.wrong("headers", &reader.value()?),
            ("properties", _) => self.wrong("properties", &reader.value()?),
            _ => reader.skip()?,
        }
        Ok(())
    }

    fn read_property(&mut self, name: Cow<'a, str>, reader: &mut Reader<'a>) -> Fallible<()> {
        if name == "delivery_info" && reader.peek()? == Kind::Object {
            return reader.object(|reader, name| self.read_delivery_info(&name, reader));
        }
        if name == "body_encoding" && reader.peek()? == Kind::Text {
            self.body_encoding = Some(reader.text()?);
            return Ok(());
        }
        let value = reader.value()?;
        match name.as_ref() {
            "correlation_id" => {
                self.message.properties.correlation_id =
                    self.optional_text("properties.correlation_id", value);
            }
            "reply_to" => self.message.properties.reply_to = self.optional_text("properties.reply_to", value),
            "delivery_mode" => {
                let mode = value.as_i64().and_then(|mode| mode.try_into().ok());
                self.message.properties.delivery_mode = mode.unwrap_or(2);
            }
            "delivery_info" if value.is_null() => {
                self.message.properties.delivery_info = DeliveryInfo::default()
            }
            "delivery_info" => self.wrong("properties.delivery_info", &value),
            "priority" => self.message.properties.priority = priority(&value),
            "delivery_tag" => {
                self.has_delivery_tag = !value.is_null();
                self.message.properties.delivery_tag = match value {
                    Value::Int(tag) => tag.to_string(),
                    other => self.text("properties.delivery_tag", other),
                };
            }
            "expiration" => {
                self.message.properties.expiration = match value {
                    Value::Int(milliseconds) => Some(milliseconds.to_string()),
                    other => self.optional_text("properties.expiration", other),
                };
            }
            "body_encoding" => {
                self.body_encoding = self.optional_text("properties.body_encoding", value).map(Cow::Owned);
            }
            _ => {
                self.message.properties.extra.insert(name.into_owned(), value);
            }
        }
        Ok(())
    }

    fn read_delivery_info(&mut self, name: &str, reader: &mut Reader<'a>) -> Fallible<()> {
        let value = reader.value()?;
        match name {
            "exchange" => {
                let exchange = self.text("properties.delivery_info.exchange", value);
                self.message.properties.delivery_info.exchange = exchange;
            }
            "routing_key" => {
                let routing_key = self.text("properties.delivery_info.routing_key", value);
                self.message.properties.delivery_info.routing_key = routing_key;
            }
            "redelivered" => self.message.properties.delivery_info.redelivered = value == Value::Bool(true),
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, field: &'static str, value: Value) -> String {
        self.optional_text(field, value).unwrap_or_default()
    }

    fn optional_text(&mut self, field: &'static str, value: Value) -> Option<String> {
        match value {
            Value::Null => None,
            Value::Str(text) => Some(surrogates::carried(text)),
            Value::Surrogates(_) => value.into_carried(),
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
        self.message.body = match self.body_encoding.as_deref() {
            Some("base64") => match base64().decode(self.body.as_bytes()) {
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
            None | Some("" | "utf-8" | "utf8") => Bytes::from(self.body.into_owned()),
            Some(encoding) => {
                let Headers { id, task, .. } = self.message.headers;
                return Err(ProtocolError::BadEnvelope {
                    field: "properties.body_encoding",
                    found: format!(
                        "{encoding:?}, which is neither base64 nor utf-8",
                        encoding = shorten(encoding)
                    ),
                    id,
                    task,
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
