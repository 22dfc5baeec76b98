//! Protocol 1, and the hybrid of both protocols: the body is an object with the task's name and id.
//!
//! Source: celery 5.7 `celery/worker/strategy.py`.

use super::body::{args_of, kwargs_of};
use super::iso8601::{self, Moment};
use super::{Body, Embed, Headers, Map, ProtocolError, Value, repr};

/// Headers of protocol 2 and the call; headers that the message has win.
///
/// # Errors
/// The body has a value of a wrong type; the error names the task, which only the body may do in protocol 1.
pub(super) fn upgrade(headers: Headers, mut entries: Map) -> Result<(Headers, Body), ProtocolError> {
    let named = |name: &str| entries.get(name).and_then(Value::as_str).map(str::to_owned);
    let (id, task, is_known) = (named("id"), named("task"), headers.id.is_some());
    let upgraded = Body::take_object(&mut entries)
        .and_then(|body| Ok((upgrade_headers(headers, entries, &body)?, body)));
    upgraded.map_err(|error| match id {
        Some(_) if !is_known && error.task_id().is_none() => {
            ProtocolError::BadEnvelope { field: "body", found: format!("unreadable: {error}"), id, task }
        }
        _ => error,
    })
}

impl Body {
    /// Takes the call out of a body of protocol 1.
    pub(super) fn take_object(entries: &mut Map) -> Result<Self, ProtocolError> {
        let mut take = |key: &str| entries.swap_remove(key);
        let args = take("args").map_or_else(|| Ok(Vec::new()), args_of)?;
        let kwargs = take("kwargs").map_or_else(|| Ok(Map::new()), kwargs_of)?;
        let mut embed = Embed::default();
        for key in ["callbacks", "errbacks", "chord"] {
            embed.set(key, take(key).unwrap_or_default())?;
        }
        Ok(Body { args, kwargs, embed })
    }
}

fn upgrade_headers(headers: Headers, mut entries: Map, body: &Body) -> Result<Headers, ProtocolError> {
    let is_protocol_1 = headers.task.is_none();
    if is_protocol_1 && let Some(taskset) = entries.swap_remove("taskset") {
        entries.insert("group".to_owned(), taskset);
    }
    if entries.get("utc") != Some(&Value::Bool(false)) {
        for key in ["eta", "expires"] {
            entries.entry(key.to_owned()).and_modify(mark_utc);
        }
    }
    let known = [
        "lang",
        "task",
        "id",
        "root_id",
        "parent_id",
        "group",
        "group_index",
        "shadow",
        "eta",
        "expires",
        "retries",
        "timelimit",
        "argsrepr",
        "kwargsrepr",
        "origin",
    ];
    entries.retain(|key, _| known.contains(&key.as_str()));
    let mut upgraded = Headers::from_map(entries)?;
    if is_protocol_1 {
        upgraded.argsrepr = Some(repr::repr_args(&body.args));
        upgraded.kwargsrepr = Some(repr::repr_kwargs(&body.kwargs));
    }
    upgraded.override_with(headers);
    Ok(upgraded)
}

/// Says that a time without an offset is in UTC.
fn mark_utc(value: &mut Value) {
    if let Value::Str(text) = value
        && let Some(Moment::Naive(moment)) = iso8601::parse_moment(text)
    {
        *text = iso8601::format_iso8601(moment.and_utc());
    }
}
