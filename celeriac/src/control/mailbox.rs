//! The messages of remote control: requests and replies.

use super::Matcher;
use super::matcher::MatchError;
use crate::broker::{BrokerError, ReplyAddress};
use crate::message::{Accept, Codec, DeliveryInfo, Headers, Map, Message, Properties, Value};

/// A command on its way to workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Request {
    /// Name of the command.
    pub(super) method: String,
    /// Its arguments as they were sent.
    pub(super) arguments: Value,
    /// Names of the nodes that are meant; empty for all.
    pub(super) destination: Vec<String>,
    /// Pattern of the node names that are meant.
    pub(super) pattern: Option<String>,
    /// Name of the pattern's matcher.
    pub(super) matcher: Option<String>,
    /// Where the answer is expected, if it is.
    pub(super) reply_to: Option<ReplyTo>,
}

/// Where an answer is expected.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ReplyTo {
    pub(super) address: ReplyAddress,
    /// Tells the client its own answers.
    pub(super) ticket: Value,
}

/// A message that is no command.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadRequest {
    /// Its body cannot be read.
    #[error(transparent)]
    Protocol(#[from] crate::message::ProtocolError),
    /// Its body has another shape.
    #[error("{field} is {found} rather than {expected}")]
    Field { field: &'static str, found: String, expected: &'static str },
}

impl Request {
    /// Reads a request.
    pub(super) fn decode(message: &Message, accept: &Accept) -> Result<Self, BadRequest> {
        let payload = message.payload(accept)?;
        let wrong = |field, found: &Value, expected| {
            Err(BadRequest::Field { field, found: found.kind().to_owned(), expected })
        };
        let Value::Map(mut body) = payload else { return wrong("the body", &payload, "a mapping") };
        let mut take = |name: &str| body.swap_remove(name).unwrap_or_default();
        let method = match take("method") {
            Value::Str(method) => method,
            other => return wrong("method", &other, "text"),
        };
        let destination = match take("destination") {
            Value::List(nodes) => nodes.iter().map(super::python::str).collect(),
            Value::Str(node) if !node.is_empty() => vec![node],
            _ => Vec::new(),
        };
        let mut text = |name: &str| match take(name) {
            value if super::python::is_true(&value) => Some(super::python::str(&value)),
            _ => None,
        };
        let (pattern, matcher) = (text("pattern"), text("matcher"));
        let ticket = body.swap_remove("ticket").unwrap_or_default();
        let reply_to = body.swap_remove("reply_to").filter(super::python::is_true).and_then(|reply_to| {
            let text = |name: &str| reply_to.get(name).and_then(Value::as_str).map(str::to_owned);
            let address = ReplyAddress { exchange: text("exchange")?, routing_key: text("routing_key")? };
            Some(ReplyTo { address, ticket })
        });
        let arguments = body.swap_remove("arguments").unwrap_or_default();
        Ok(Self { method, arguments, destination, pattern, matcher, reply_to })
    }

    /// Writes the request for an exchange; `expires` is Unix time, 0 for never.
    ///
    /// # Errors
    /// The serializer has no form for an argument.
    pub(super) fn encode(
        &self,
        exchange: &str,
        clock: u64,
        expires: f64,
        codec: impl Into<Codec>,
    ) -> Result<Message, BrokerError> {
        let destination = match self.destination.as_slice() {
            [] => Value::Null,
            nodes => nodes.iter().map(|node| Value::from(node.as_str())).collect(),
        };
        let mut body = Map::from([
            ("method".to_owned(), self.method.as_str().into()),
            ("arguments".to_owned(), self.arguments.clone()),
            ("destination".to_owned(), destination),
            ("pattern".to_owned(), self.pattern.clone().into()),
            ("matcher".to_owned(), self.matcher.clone().into()),
        ]);
        if let Some(reply_to) = &self.reply_to {
            body.insert("ticket".to_owned(), reply_to.ticket.clone());
            let reply_to = Map::from([
                ("exchange".to_owned(), reply_to.address.exchange.as_str().into()),
                ("routing_key".to_owned(), reply_to.address.routing_key.as_str().into()),
            ]);
            body.insert("reply_to".to_owned(), reply_to.into());
        }
        let expires = if expires == 0.0 { Value::Int(0) } else { Value::Float(expires) };
        let headers = [("clock", clock.into()), ("expires", expires)];
        envelope(&Value::Map(body), headers, 2, exchange, "", codec)
    }

    /// Whether the node of that name is meant.
    ///
    /// # Errors
    /// The matcher is not known, or the pattern is none of its patterns.
    pub(super) fn is_for(&self, hostname: &str) -> Result<bool, MatchError> {
        if !self.destination.is_empty() {
            return Ok(self.destination.iter().any(|node| node == hostname));
        }
        match (&self.pattern, &self.matcher) {
            (Some(pattern), Some(matcher)) => match Matcher::from_name(matcher) {
                Some(matcher) => matcher.matches(hostname, pattern),
                None => Err(MatchError::Unknown { matcher: matcher.clone() }),
            },
            _ => Ok(true),
        }
    }
}

impl ReplyTo {
    /// The answer of a node.
    ///
    /// # Errors
    /// The serializer has no form for the answer.
    pub(super) fn message(
        &self,
        hostname: &str,
        answer: Value,
        clock: u64,
        codec: impl Into<Codec>,
    ) -> Result<Message, BrokerError> {
        let body = Value::Map(Map::from([(hostname.to_owned(), answer)]));
        let headers = [("ticket", self.ticket.clone()), ("clock", clock.into())];
        envelope(&body, headers, 1, &self.address.exchange, &self.address.routing_key, codec)
    }
}

/// Reads a request and asks whom it is for, as a worker does with whatever comes.
pub(crate) fn read_request(message: &Message) {
    if let Ok(request) = Request::decode(message, &Accept::all()) {
        let _ = request.is_for("celery@host");
    }
}

fn envelope(
    body: &Value,
    headers: [(&str, Value); 2],
    delivery_mode: u8,
    exchange: &str,
    routing_key: &str,
    codec: impl Into<Codec>,
) -> Result<Message, BrokerError> {
    let mut message = Message {
        headers: Headers {
            extra: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            ..Headers::default()
        },
        properties: Properties {
            delivery_mode,
            delivery_info: DeliveryInfo {
                exchange: exchange.to_owned(),
                routing_key: routing_key.to_owned(),
                redelivered: false,
            },
            priority: Some(0),
            delivery_tag: uuid::Uuid::new_v4().to_string(),
            ..Properties::default()
        },
        ..Message::default()
    };
    message.set_payload(body, codec, None)?;
    Ok(message)
}
