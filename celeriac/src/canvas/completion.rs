//! What follows a task that succeeded: callbacks, the next step of its chain, its part of a chord.
//!
//! Source: celery 5.7 `_dispatch_callbacks_and_chain` in `celery/app/trace.py`, `on_chord_part_return` in
//! `celery/backends/redis.py`.

use super::apply::{apply_node, apply_received};
use super::node::Node;
use super::{CanvasError, Ending, Outbox, Sender};
use crate::backend::{ChordPart, TaskState};
use crate::message::{Map, Signature, Value};
use crate::task::Request;

/// Whether anything follows a task: callbacks, the next step of a chain, the end of a chord.
pub(crate) fn is_followed(request: &Request) -> bool {
    let embed = &request.body.embed;
    !embed.callbacks.is_empty() || !embed.chain.is_empty() || embed.chord.is_some()
}

/// Sends what follows a task that returned `result`: its callbacks, then the next step of its chain.
///
/// The results of what is sent become the outbox's children; they belong to the task's record.
///
/// # Errors
/// Something that follows cannot be sent: the task has failed then, and the outbox is to be dropped.
pub fn on_success(
    request: &Request,
    result: &Value,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<(), CanvasError> {
    let embed = &request.body.embed;
    if embed.callbacks.is_empty() && embed.chain.is_empty() {
        return Ok(());
    }
    let sender = &Sender { parent: Some(request), ..*sender };
    let options = follow_up_options(request, sender);
    match embed.callbacks.as_slice() {
        [] => {}
        [callback] => apply_received(callback, result.clone(), options.clone(), sender, outbox)?,
        callbacks => {
            let (groups, others): (Vec<_>, Vec<_>) =
                callbacks.iter().partition(|callback| callback.is_group());
            for group in groups {
                apply_received(group, result.clone(), options.clone(), sender, outbox)?;
            }
            let others =
                others.into_iter().cloned().map(Node::from_signature).collect::<Result<Vec<_>, _>>()?;
            if !others.is_empty() {
                let args = vec![result.clone()];
                apply_node(Node::group(others), args, &Map::new(), options.clone(), sender, outbox)?;
            }
        }
    }
    if let Some((next, rest)) = embed.chain.split_last() {
        let mut options = options;
        let rest = rest.iter().map(Signature::to_value).collect();
        options.insert("chain".to_owned(), rest);
        apply_received(next, result.clone(), options, sender, outbox)?;
    }
    Ok(())
}

/// The part of a chord that this task is, if it is one.
pub fn chord_part(request: &Request, state: TaskState, result: Value) -> Option<ChordPart> {
    let body = request.body.embed.chord.as_deref()?;
    let group_id = request.headers.group.as_deref().filter(|group_id| !group_id.is_empty())?;
    if request.id.is_empty() {
        return None;
    }
    Some(ChordPart {
        group_id: group_id.to_owned(),
        task_id: request.id.clone(),
        group_index: request.headers.group_index,
        state,
        result,
        body: Some(body.clone()),
    })
}

/// Returns the part of a chord that a task may be whose message could not be read: its headers name its group, and only
/// other parts can tell whether that is a chord, and with which body.
pub fn unread_part(request: &Request, ending: &Ending) -> Option<ChordPart> {
    let group_id = request.headers.group.as_deref().filter(|group_id| !group_id.is_empty())?;
    (!request.id.is_empty()).then(|| ChordPart {
        group_id: group_id.to_owned(),
        task_id: request.id.clone(),
        group_index: request.headers.group_index,
        state: ending.state.clone(),
        result: ending.exception.to_value(),
        body: None,
    })
}

/// Sends the body of a chord whose parts are all in; `request` is the task that completed it.
///
/// # Errors
/// The body cannot be sent: the chord has failed then, see [`chord_error`](super::chord_error).
pub fn chord_ready(
    body: &Signature,
    results: Vec<Value>,
    request: &Request,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<(), CanvasError> {
    let sender = &Sender { parent: Some(request), ..*sender };
    // The record of the part is stored by now, so that the body is none of its children.
    let children = outbox.children.len();
    apply_received(body, Value::List(results), Map::new(), sender, outbox)?;
    outbox.children.truncate(children);
    Ok(())
}

fn follow_up_options(request: &Request, sender: &Sender<'_>) -> Map {
    let mut options = Map::new();
    options.insert("parent_id".to_owned(), Value::from(request.id.as_str()));
    options.insert("root_id".to_owned(), Value::from(request.root_id()));
    if sender.config.task_inherit_parent_priority
        && let Some(priority) = request.properties.priority
    {
        options.insert("priority".to_owned(), Value::from(priority));
    }
    options
}
