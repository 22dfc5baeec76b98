//! Tasks that put another signature in their place, or add one to their chord.
//!
//! Source: celery 5.7 `replace` and `add_to_chord` in `celery/app/task.py`.

use super::apply::apply_node;
use super::freeze::Place;
use super::node::{Kind, Node, extend, maybe_list};
use super::{CanvasError, Effect, Outbox, Sender};
use crate::backend::ResultRef;
use crate::message::{Map, Signature, Value};
use crate::task::Request;

/// Sends a signature in the place of the running task: with its id, chord, group, links and the rest of its chain.
///
/// The task itself ends without a result.
///
/// # Errors
/// The signature is an empty chain, is part of a chord already, or cannot be applied.
pub fn replace(
    request: &Request,
    signature: Signature,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<(), CanvasError> {
    let sender = &Sender { parent: Some(request), ..*sender };
    let embed = &request.body.embed;
    let mut node = Node::from_signature(signature)?;
    if node.options.contains_key("chord") {
        return Err(CanvasError::ReplaceInChord);
    }
    if node.is_empty_chain() {
        return Err(CanvasError::ReplaceWithEmptyChain);
    }
    // A group has no end to link to: it becomes a chord that hands on the list of results.
    if node.is_group() {
        node = node.or(accumulate());
    }
    if let Kind::Chain(tasks) = &mut node.kind
        && let Some(last) = tasks.pop_if(|last| last.is_group())
    {
        tasks.push(last.or(accumulate()));
    }
    hide(&mut node, [("argsrepr", request.hidden_args()), ("kwargsrepr", request.hidden_kwargs())]);
    let on_headers = sender.config.task_allow_error_cb_on_chord_header;
    embed.callbacks.iter().for_each(|callback| node.link(callback.to_value()));
    embed.errbacks.iter().for_each(|errback| node.link_error(&errback.to_value(), on_headers));
    // Callbacks of a chain belong to its last task, also when more tasks are chained to it below.
    if let Kind::Chain(tasks) = &mut node.kind
        && let Some(last) = tasks.last_mut()
    {
        extend(&mut last.options, "link", maybe_list(node.options.shift_remove("link")));
    }
    let nesting = i64::from(request.headers.replaced_task_nesting) + 1;
    if let Kind::Chain(tasks) = &mut node.kind {
        tasks.iter_mut().for_each(|task| task.set("replaced_task_nesting", nesting));
    }
    node.freeze(&Place { id: Some(request.id.clone()), ..Place::default() }, sender)?;

    node.set("chord", embed.chord.as_ref().map(|chord| chord.to_value()));
    node.set("group_id", request.headers.group.clone());
    node.set("group_index", request.headers.group_index);
    node.set("root_id", request.headers.root_id.clone());
    node.set("replaced_task_nesting", nesting);
    for step in embed.chain.iter().rev() {
        let mut step = Node::from_signature(step.clone())?;
        step.set("replaced_task_nesting", nesting);
        node = node.or(step);
    }
    apply_node(node, Vec::new(), &Map::new(), Map::new(), sender, outbox).map(drop)
}

/// Sends a signature as a further part of the chord that the running task is a part of; each member of a group becomes a
/// part of its own.
///
/// # Errors
/// The task is in no chord, or the signature cannot be applied.
pub fn add_to_chord(
    request: &Request,
    signature: Signature,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<ResultRef, CanvasError> {
    let sender = &Sender { parent: Some(request), ..*sender };
    let (Some(chord), Some(group_id)) = (&request.body.embed.chord, &request.headers.group) else {
        return Err(CanvasError::NotInChord { id: request.id.clone() });
    };
    let node = Node::from_signature(signature)?;
    let is_group = node.is_group();
    let (mut parts, options) = parts_of(node);
    for part in &mut parts {
        part.set("group_id", group_id.as_str());
        part.set("group_index", request.headers.group_index);
        part.set("chord", chord.to_value());
        part.set("root_id", request.headers.root_id.clone());
        part.freeze(&Place::default(), sender)?;
    }
    // All are counted before the first one may return.
    let by = parts.iter().map(Node::chord_size).sum();
    if by > 0 {
        outbox.push(Effect::ChordGrow { group_id: group_id.clone(), by });
    }
    let mut results = Vec::with_capacity(parts.len());
    for part in parts {
        let outcome = apply_node(part, Vec::new(), &Map::new(), options.clone(), sender, outbox)?;
        results.push(outcome.ok_or(CanvasError::EmptyChain)?.to_ref());
    }
    if is_group {
        return Ok(ResultRef::group((sender.new_id)(), results));
    }
    results.pop().ok_or(CanvasError::EmptyChain)
}

/// The parts that a signature adds to a chord, and what the group around them asks for them.
fn parts_of(node: Node) -> (Vec<Node>, Map) {
    let mut options = if node.is_group() { node.options.clone() } else { Map::new() };
    for own in ["task_id", "group_id", "group_index", "chord", "root_id"] {
        options.shift_remove(own);
    }
    let (mut parts, mut unread) = (Vec::new(), vec![node]);
    while let Some(node) = unread.pop() {
        match node.kind {
            Kind::Group(members) => unread.extend(members.into_iter().rev()),
            _ if node.is_empty_chain() => {}
            _ => parts.push(node),
        }
    }
    (parts, options)
}

/// Shows the texts that hid the arguments of a replaced task for each task that takes its place and shows none of its own.
fn hide(node: &mut Node, texts: [(&str, Option<&str>); 2]) {
    match &mut node.kind {
        Kind::Task => {
            for (option, text) in texts {
                if let Some(text) = text {
                    node.options.entry(option.to_owned()).or_insert_with(|| Value::from(text));
                }
            }
        }
        Kind::Chain(tasks) | Kind::Group(tasks) => tasks.iter_mut().for_each(|task| hide(task, texts)),
        Kind::Chord(chord) => {
            chord.header.iter_mut().chain(&mut chord.body).for_each(|task| hide(task, texts))
        }
    }
}

fn accumulate() -> Node {
    let mut kwargs = Map::new();
    kwargs.insert("index".to_owned(), Value::Int(0));
    Node {
        task: "celery.accumulate".to_owned(),
        args: Vec::new(),
        kwargs,
        options: Map::new(),
        immutable: false,
        kind: Kind::Task,
    }
}
