//! A sender with a fixed time, fixed names and counted ids, as the samples were captured with.

use std::sync::atomic::{AtomicU32, Ordering};

use celeriac::backend::ResultRef;
use celeriac::canvas::{self, CanvasError, Effect, Outbox, Sender};
use celeriac::config::Config;
use celeriac::message::{Accept, Body, Codecs, Map, Message, Signature, Value};
use celeriac::task::{Request, TaskOptions};
use chrono::{DateTime, Utc};

pub(crate) const REPLY_TO: &str = "aaaaaaaa-0000-3000-8000-000000000001";
pub(crate) const NOW: &str = "2026-01-01T12:00:00Z";

pub(crate) struct Desk {
    pub(crate) config: Config,
    pub(crate) options: TaskOptions,
    next: AtomicU32,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { config: Config::default(), options: TaskOptions::default(), next: AtomicU32::new(1) }
    }

    pub(crate) fn set(mut self, setting: &str, value: &str) -> Self {
        self.config.set(setting, value).unwrap();
        self
    }

    pub(crate) fn with<R>(&self, parent: Option<&Request>, call: impl FnOnce(&Sender<'_>) -> R) -> R {
        let new_id = || format!("00000000-0000-4000-8000-{:012}", self.next.fetch_add(1, Ordering::Relaxed));
        let tasks = |name: &str| name.starts_with("vec.").then(|| self.options.clone());
        call(&Sender {
            codecs: &Codecs::default(),
            config: &self.config,
            tasks: &tasks,
            origin: "gen4242@client.example",
            reply_to: REPLY_TO,
            now: now(),
            new_id: &new_id,
            parent,
        })
    }

    pub(crate) fn try_apply(
        &self,
        signature: Signature,
        options: Value,
    ) -> Result<(ResultRef, Outbox), CanvasError> {
        let mut outbox = Outbox::new();
        let result = self.with(None, |sender| {
            canvas::apply(signature, Vec::new(), Map::new(), map(options), sender, &mut outbox)
        })?;
        Ok((result, outbox))
    }

    pub(crate) fn apply(&self, signature: Signature, options: Value) -> Outbox {
        self.try_apply(signature, options).unwrap().1
    }
}

pub(crate) fn now() -> DateTime<Utc> {
    NOW.parse().unwrap()
}

pub(crate) fn map(value: Value) -> Map {
    match value {
        Value::Map(entries) => entries,
        other => panic!("not a mapping: {other:?}"),
    }
}

/// The request that a worker makes of a message.
pub(crate) fn request(message: &Message) -> Request {
    let body = body(message);
    Request::new(message.headers.clone(), message.properties.clone(), body, "w1@vectors.example")
}

pub(crate) fn body(message: &Message) -> Body {
    message.body(&Accept::new(["json"]).unwrap()).unwrap()
}

pub(crate) fn messages(outbox: &Outbox) -> Vec<Message> {
    outbox.messages().cloned().collect()
}

pub(crate) fn only_message(outbox: &Outbox) -> Message {
    let [message] = <[Message; 1]>::try_from(messages(outbox)).unwrap_or_else(|all| panic!("{all:#?}"));
    message
}

pub(crate) fn chord_sizes(outbox: &Outbox) -> Vec<usize> {
    let sizes = outbox.effects.iter().filter_map(|effect| match effect {
        Effect::ChordSize { size, .. } => Some(*size),
        _ => None,
    });
    sizes.collect()
}

/// `vec.<name>` with positional arguments.
pub(crate) fn s(name: &str, args: impl IntoIterator<Item = impl Into<Value>>) -> Signature {
    Signature::new(format!("vec.{name}")).args(args)
}

/// `vec.<name>` without arguments.
pub(crate) fn s0(name: &str) -> Signature {
    Signature::new(format!("vec.{name}"))
}
