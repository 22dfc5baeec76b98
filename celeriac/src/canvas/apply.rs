//! Applying signatures: what each kind of canvas sends.
//!
//! Source: celery 5.7 `celery/canvas.py`, the `apply_async` and `run` methods.

use super::freeze::{Partial, Place, freeze_group, prepare};
use super::node::{Chord, Kind, Node, extend, maybe_list, merge_options};
use super::outcome::Outcome;
use super::send::{ShownArgs, send};
use super::{CanvasError, Effect, Outbox, Sender};
use crate::backend::ResultRef;
use crate::message::{Map, Signature, Value};
use crate::stack::deeper;

/// Applies a signature: puts its first messages, and what the backend must know of them, into the outbox.
///
/// `args` stand before the signature's own arguments and `kwargs` over them, unless it is immutable. `options` are
/// those of Celery's `apply_async`; unknown ones become properties of the message.
///
/// Returns the result to wait for: of the last task of a chain, of a chord's body, of a group.
///
/// # Errors
/// The signature cannot be applied; the outbox may hold a part of it then.
pub fn apply(
    signature: impl Into<Signature>,
    args: Vec<Value>,
    kwargs: Map,
    mut options: Map,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<ResultRef, CanvasError> {
    let mut signature = signature.into();
    let is_frozen = signature.options.contains_key("task_id") || options.contains_key("task_id");
    if signature.subtask_type.is_none() {
        let inner = signature.kwargs.get("task").and_then(|task| task.get("task")).cloned();
        match (signature.task.as_str(), inner) {
            ("celery.map" | "celery.starmap", Some(name)) => {
                let name = options.shift_remove("route_name").unwrap_or(name);
                signature.options.entry("route_name".to_owned()).or_insert(name);
            }
            ("celery.chunks", Some(_)) if !is_frozen => {
                signature = super::builtins::chunks_group(&signature)?
            }
            _ => {}
        }
    }
    let node = Node::from_signature(signature)?;
    let outcome = apply_node(node, args, &kwargs, options, sender, outbox)?;
    outcome.map(|outcome| outcome.to_ref()).ok_or(CanvasError::EmptyChain)
}

/// Gives a signature the ids under which it will run, and returns the result to wait for.
///
/// A frozen signature is to be applied once.
///
/// # Errors
/// The signature cannot be applied.
pub fn freeze(signature: &mut Signature, sender: &Sender<'_>) -> Result<ResultRef, CanvasError> {
    let mut node = Node::from_signature(std::mem::take(signature))?;
    let outcome = node.freeze(&Place::default(), sender)?;
    *signature = node.to_signature();
    Ok(outcome.to_ref())
}

/// Applies a tree; `None` when there was nothing to send.
pub(super) fn apply_node(
    node: Node,
    args: Vec<Value>,
    kwargs: &Map,
    options: Map,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<Option<Outcome>, CanvasError> {
    match node.kind {
        Kind::Task => apply_task(node, args, kwargs, options, ShownArgs::Tuple, sender, outbox).map(Some),
        Kind::Chain(_) => deeper(|| apply_chain(node, args, kwargs, options, sender, outbox)),
        Kind::Group(_) => deeper(|| apply_group(node, args, kwargs, options, sender, outbox)).map(Some),
        Kind::Chord(_) => deeper(|| apply_chord(node, args, kwargs, options, sender, outbox)).map(Some),
    }
}

/// Applies a signature that a message brought to what a task returned.
///
/// Celery applies it as it came, without cloning it: the arguments of an immutable task, if it has any, are still
/// JSON's list.
pub(super) fn apply_received(
    signature: &Signature,
    result: Value,
    options: Map,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<(), CanvasError> {
    let node = Node::from_signature(signature.clone())?;
    if node.immutable && !node.args.is_empty() && matches!(node.kind, Kind::Task) {
        apply_task(node, Vec::new(), &Map::new(), options, ShownArgs::List, sender, outbox).map(drop)
    } else {
        apply_node(node, vec![result], &Map::new(), options, sender, outbox).map(drop)
    }
}

fn apply_task(
    mut node: Node,
    args: Vec<Value>,
    kwargs: &Map,
    mut options: Map,
    shown_args: ShownArgs,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<Outcome, CanvasError> {
    options.retain(|name, value| !value.is_null() && name != "route_name");
    node.merge(args, kwargs, options);
    send(&node.task, node.args, node.kwargs, node.options, shown_args, sender, outbox)
}

fn apply_chain(
    mut node: Node,
    mut args: Vec<Value>,
    kwargs: &Map,
    options: Map,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<Option<Outcome>, CanvasError> {
    let Kind::Chain(steps) = node.kind else { return Ok(None) };
    if node.immutable {
        args.clear();
    }
    args.append(&mut node.args);
    let mut options = joined(node.options, options);
    let link = maybe_list(options.shift_remove("link"));
    let errbacks = maybe_list(options.shift_remove("link_error"));
    let place = Place {
        id: take_text(&mut options, "task_id"),
        group_id: take_text(&mut options, "group_id"),
        group_index: options.shift_remove("group_index").and_then(|index| index.as_i64()),
        chord: options.shift_remove("chord").filter(|chord| !chord.is_null()),
        root_id: take_text(&mut options, "root_id"),
        parent_id: take_text(&mut options, "parent_id"),
    };
    let mut prepared = prepare(steps, Partial::new(&args, kwargs), &place, &errbacks, true, sender)?;
    if let Some(last) = prepared.tasks.first_mut() {
        extend(&mut last.options, "link", link);
    }
    let Some(first) = prepared.tasks.pop() else { return Ok(None) };
    let mut rest = maybe_list(options.shift_remove("chain"));
    rest.extend(prepared.tasks.iter().map(Node::to_value));
    options.insert("chain".to_owned(), Value::List(rest));
    let is_alone = prepared.tasks.is_empty();
    let applied = apply_node(first, Vec::new(), &Map::new(), options, sender, outbox)?;
    Ok(if is_alone { applied } else { prepared.results.into_iter().next() })
}

fn apply_group(
    mut node: Node,
    args: Vec<Value>,
    kwargs: &Map,
    mut options: Map,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<Outcome, CanvasError> {
    for option in ["link", "link_error"] {
        if options.shift_remove(option).is_some_and(|link| !link.is_null()) {
            return Err(CanvasError::GroupLink { option });
        }
    }
    let adds_to_parent = take_add_to_parent(&mut options);
    let Kind::Group(tasks) = &mut node.kind else { return Err(CanvasError::EmptyChain) };
    if tasks.is_empty() {
        return node.freeze(&Place::default(), sender);
    }
    let tasks = std::mem::take(tasks);
    let mut merged = node.options;
    merge_options_of_group(&mut merged, options);
    let group_id = take_text(&mut merged, "task_id").unwrap_or_else(|| (sender.new_id)());
    merged.insert("group_id".to_owned(), Value::from(group_id.as_str()));
    let root_id = merged.get("root_id").and_then(Value::as_str).map(str::to_owned);
    let chord = merged.shift_remove("chord").filter(|chord| !chord.is_null());
    merged.shift_remove("group_index");

    let mut members = Vec::with_capacity(tasks.len());
    let place = Place { group_id: Some(group_id.clone()), root_id, ..Place::default() };
    freeze_members(tasks, &place, sender, &mut members)?;
    let count = members.len();
    let mut size = 0;
    let mut results = Vec::with_capacity(count);
    for (position, (member, result)) in members.into_iter().enumerate() {
        let chord =
            chord.clone().or_else(|| member.options.get("chord").filter(|chord| !chord.is_null()).cloned());
        size += member.chord_size();
        // The size is known before the last part is sent: no part can be the last one without it.
        if chord.is_some() && position + 1 == count {
            outbox.push(Effect::ChordSize { group_id: group_id.clone(), size });
        }
        let mut member_options = merged.clone();
        member_options.insert("add_to_parent".to_owned(), Value::Bool(false));
        // In Celery no chord here hides that of a member's body, and the chord around it never ends.
        member_options.extend(chord.map(|chord| ("chord".to_owned(), chord)));
        apply_node(member, args.clone(), kwargs, member_options, sender, outbox)?;
        results.push(result);
    }
    let result = match results.as_slice() {
        [only] if only.is_group() => only.clone(),
        _ => Outcome::group(group_id, results),
    };
    if adds_to_parent && sender.parent.is_some() {
        outbox.children.push(result.to_ref());
    }
    Ok(result)
}

/// Freezes the members of a group as they are sent (`group._prepared`): a nested group counts from 0 again.
fn freeze_members(
    tasks: Vec<Node>,
    place: &Place,
    sender: &Sender<'_>,
    members: &mut Vec<(Node, Outcome)>,
) -> Result<(), CanvasError> {
    for (index, mut task) in tasks.into_iter().enumerate() {
        if let Kind::Group(inner) = task.kind {
            freeze_members(inner, place, sender, members)?;
        } else if !task.is_empty_chain() {
            task.thaw();
            let result = task.freeze(&Place { group_index: Some(index as i64), ..place.clone() }, sender)?;
            members.push((task, result));
        }
    }
    Ok(())
}

fn apply_chord(
    mut node: Node,
    mut args: Vec<Value>,
    kwargs: &Map,
    mut options: Map,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<Outcome, CanvasError> {
    let Kind::Chord(chord) = node.kind else { return Err(CanvasError::NoBody) };
    let Chord { mut header, header_options, body } = *chord;
    if node.immutable {
        args.clear();
    }
    args.append(&mut node.args);
    let mut header_kwargs = match node.kwargs.shift_remove("kwargs") {
        Some(Value::Map(stored)) => stored,
        _ => Map::new(),
    };
    let mut kwargs = kwargs.clone();
    let body = match kwargs.shift_remove("body") {
        Some(body) if !body.is_null() => Some(Node::from_value(&body)?),
        _ => body,
    };
    let mut body = body.ok_or(CanvasError::NoBody)?;
    header_kwargs.extend(kwargs);

    let mut delay = take_delay(&mut options);
    let mut callbacks = Map::new();
    for name in ["link", "link_error"] {
        if let Some(links) = options.shift_remove(name) {
            callbacks.insert(name.to_owned(), links);
        }
    }
    let mut task_id = take_text(&mut options, "task_id");
    merge_options(&mut body.options, body_options(&options));
    body.thaw();

    let group_id = header_options
        .as_ref()
        .and_then(|header| header.get("task_id"))
        .or_else(|| node.options.get("task_id"))
        .and_then(Value::as_str)
        .map(str::to_owned)
        .unwrap_or_else(|| (sender.new_id)());
    let mut header_options = header_options.unwrap_or_default();
    let mut options = joined(joined(node.options, options), callbacks);
    for (name, value) in take_delay(&mut options) {
        delay.entry(name).or_insert(value);
    }
    let own_task_id = take_text(&mut options, "task_id");
    task_id = task_id.or(own_task_id);
    for unlock_option in ["interval", "max_retries", "eager"] {
        options.shift_remove(unlock_option);
    }

    let root_id = body.text("root_id").map(str::to_owned);
    body.add_body_callbacks(&mut options);
    let mut own_options = body_options(&options);
    if body.options.get("chord").is_some_and(|chord| !chord.is_null()) {
        // It is a part of that chord already. Celery counts it for the group that it is sent with, and never completes
        // the chord.
        own_options.shift_remove("group_id");
        own_options.shift_remove("group_index");
    }
    body.options.extend(own_options);
    body.unroll_chords(sender.config.task_allow_error_cb_on_chord_header);
    let body_place = Place {
        id: Some(task_id.unwrap_or_else(|| (sender.new_id)())),
        group_id: Some(group_id.clone()),
        root_id: root_id.clone(),
        ..Place::default()
    };
    let body_result = body.freeze(&body_place, sender)?;
    body.strip_headers();

    // Neither the rest of the chain nor an outer chord concerns the header's tasks.
    options.shift_remove("chain");
    options.shift_remove("chord");
    header_options.insert("task_id".to_owned(), Value::from(group_id.as_str()));
    let header_place =
        Place { group_id: Some(group_id.clone()), chord: Some(body.to_value()), root_id, ..Place::default() };
    let header_result = freeze_group(&mut header, &mut header_options, &header_place, sender)?;
    if header.is_empty() {
        let empty = vec![Value::List(Vec::new())];
        apply_node(body, empty, &Map::new(), Map::new(), sender, outbox)?;
        body_result.set_parent(Some(header_result));
        return Ok(body_result);
    }
    if header_result.members().is_some_and(|members| members.iter().any(Outcome::is_group)) {
        outbox.push(Effect::SaveGroup(header_result.to_ref()));
    }
    options.extend(delay);
    options.insert("task_id".to_owned(), Value::from(group_id));
    let group = Node { options: header_options, ..Node::group(header) };
    let header_result = apply_group(group, args, &header_kwargs, options, sender, outbox)?;
    body_result.set_parent(Some(header_result));
    Ok(body_result)
}

/// Options that go on to a chord's body: its parent is the part that completes the header.
fn body_options(options: &Map) -> Map {
    let mut options = options.clone();
    options.shift_remove("parent_id");
    options
}

/// Options of a group that stay as they are when it has them (`group._freeze_gid`).
fn merge_options_of_group(stored: &mut Map, options: Map) {
    for (name, value) in options {
        let is_fixed = name == "group_id" || name == "stamped_headers";
        if !(is_fixed && stored.contains_key(&name)) {
            stored.insert(name, value);
        }
    }
}

fn joined(mut stored: Map, options: Map) -> Map {
    stored.extend(options);
    stored
}

fn take_text(options: &mut Map, name: &str) -> Option<String> {
    match options.shift_remove(name) {
        Some(Value::Str(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn take_delay(options: &mut Map) -> Map {
    let mut delay = Map::new();
    for name in ["countdown", "eta"] {
        if let Some(value) = options.shift_remove(name).filter(|value| !value.is_null()) {
            delay.insert(name.to_owned(), value);
        }
    }
    delay
}

/// Whether the result is noted as a child of the running task; so it is when nothing is said.
pub(super) fn take_add_to_parent(options: &mut Map) -> bool {
    !matches!(options.shift_remove("add_to_parent"), Some(Value::Bool(false)))
}
