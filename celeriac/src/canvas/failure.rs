//! What follows a task that will never complete: all that waited for it ends as it did, its chord counts it, its
//! errbacks are called.
//!
//! Celery does so after failures only, and not to the end: the tasks of a group, the header of a chord and the chord
//! around a body are left PENDING (celery 5.7 `mark_as_failure`, `_fail_chain`, `_call_task_errbacks`,
//! `chord_error_from_stack` in `celery/backends/base.py`; samples `vectors/results/chain_failure_propagation.json`,
//! `chord_header_error.json`).

use std::collections::{HashMap, HashSet};

use super::apply::apply_node;
use super::freeze::Place;
use super::node::{Kind, Node, maybe_list};
use super::waiting::{View, Waiting, waiting};
use super::{CanvasError, Effect, Ending, Outbox, Sender, chord_part};
use crate::backend::{ChordPart, ExceptionInfo, TaskMeta, TaskState};
use crate::message::{Map, Signature, Value};
use crate::task::Request;

/// How an errback takes the failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrbackStyle {
    /// Called in the worker's process with the request, the exception and the traceback: a task known here that takes
    /// more than one argument besides those stored in the signature.
    InProcess,
    /// Sent as a task, the failed task's id before its arguments.
    Message,
}

/// What became of errbacks that were not put into the outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Errbacks<T> {
    /// They are to be called in process.
    pub in_process: Vec<T>,
    /// They cannot be sent.
    pub unsent: Vec<CanvasError>,
}

/// An errback of a chord's body that is to be called in process, and what it is told to have failed.
#[derive(Clone, Debug, PartialEq)]
pub struct BodyErrback {
    /// The errback.
    pub errback: Signature,
    /// The id of the body, or of one task of a group as body.
    pub id: String,
    /// The name of the body; Celery does not know those of a group.
    pub task: String,
    /// The exception.
    pub exception: ExceptionInfo,
}

/// Ends what waits for a task that will never complete: puts its part of a chord, the records and parts of all that was
/// to follow it, and its errbacks into the outbox. The task's own record is the caller's.
///
/// Steps that never ran end without calling errbacks of their own, as in Celery.
pub fn never_completes(
    request: &Request,
    ending: &Ending,
    style: &dyn Fn(&Signature) -> ErrbackStyle,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Errbacks<Signature> {
    let sender = &Sender { parent: Some(request), ..*sender };
    let embed = &request.body.embed;
    if let Some(part) = chord_part(request, ending.state.clone(), ending.exception.to_value()) {
        outbox.push(Effect::ChordPart(Box::new(part)));
    }
    let after = embed.chain.iter().chain(&embed.callbacks).map(View::from);
    end_waiting(after, ending, [&*request.id], sender, outbox);
    call_errbacks(embed.errbacks.clone(), &request.id, request.root_id(), style, sender, outbox)
}

/// The exception of a chord in which a part failed.
pub fn dependency_error(task_id: &str, cause: &ExceptionInfo) -> ExceptionInfo {
    ExceptionInfo::celery("ChordError", format!("Dependency {task_id} raised {}", cause.repr()))
}

/// The exception of a chord whose results cannot be joined, or in which a part failed whose header holds groups (celery
/// 5.7 `celery/backends/redis.py`).
pub fn join_error(cause: &ExceptionInfo) -> ExceptionInfo {
    ExceptionInfo::celery("ChordError", format!("Join error: {}", cause.repr()))
}

/// Ends a chord's body that will never run: its errbacks are called, it and all that waits for it get a failure, and the
/// chord around it its part; a group as body gets `cause` on each of its tasks, which are revoked.
///
/// An errback that is also linked to the body of a chord around this one, as `chord.link_error` does, is called for that
/// body, which fails too: once, however many chords there are in its header.
///
/// `exception` is the `ChordError`, `cause` the exception of the part that failed.
///
/// # Errors
/// The body is malformed.
pub fn chord_error(
    body: &Signature,
    exception: &ExceptionInfo,
    cause: &ExceptionInfo,
    request: &Request,
    style: &dyn Fn(&Signature) -> ErrbackStyle,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<Errbacks<BodyErrback>, CanvasError> {
    let sender = &Sender { parent: Some(request), ..*sender };
    let ending = Ending::failed(exception.clone(), None);
    if body.is_group() {
        return fail_group(body.clone(), cause, &ending, style, sender, outbox);
    }
    let view = View::from(body);
    let id = view.text("task_id").map_or_else(|| (sender.new_id)(), str::to_owned);
    let around = errbacks_around(view);
    let (errbacks, mut unsent) =
        signatures(body_errbacks(view).into_iter().filter(|own| !around.contains(own)));
    let mut called = call_errbacks(errbacks, &id, &id, style, sender, outbox);
    unsent.append(&mut called.unsent);
    let told = |errback| BodyErrback {
        errback,
        id: id.clone(),
        task: body.task.clone(),
        exception: exception.clone(),
    };
    let in_process = called.in_process.into_iter().map(told).collect();
    store(&id, exception, Some(exception.traceback(None)), sender, outbox);
    end_waiting([view], &ending, [&*id], sender, outbox);
    Ok(Errbacks { in_process, unsent })
}

/// The errbacks of all bodies that fail with this one, since it or what follows it is a part of their header.
fn errbacks_around(body: View<'_>) -> Vec<&Value> {
    let mut errbacks = Vec::new();
    let mut seen = HashSet::new();
    let mut pending = vec![body];
    while let Some(signature) = pending.pop() {
        for place in waiting([signature]).iter().filter_map(|task| task.place) {
            if seen.insert(place.group_id)
                && let Some(around) = View::of(place.chord)
            {
                errbacks.extend(body_errbacks(around));
                pending.push(around);
            }
        }
    }
    errbacks
}

/// Ends each task of a group that will never run, and what follows the group.
fn fail_group(
    mut group: Signature,
    cause: &ExceptionInfo,
    ending: &Ending,
    style: &dyn Fn(&Signature) -> ErrbackStyle,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<Errbacks<BodyErrback>, CanvasError> {
    let rest = maybe_list(group.options.shift_remove("chain"));
    let mut node = Node::from_signature(group)?;
    let frozen = node.freeze(&Place::default(), sender)?;
    let group_errbacks = maybe_list(node.options.get("link_error").cloned());
    let group = node.to_signature();
    let around = errbacks_around(View::from(&group));
    let traceback = cause.traceback(None);
    let mut errbacks = Errbacks { in_process: Vec::new(), unsent: Vec::new() };
    let mut ids = Vec::new();
    if let Kind::Group(tasks) = &node.kind {
        for (task, result) in tasks.iter().zip(frozen.members().unwrap_or_default()) {
            let mut of_task = Vec::new();
            for errback in result_errbacks(task).into_iter().chain(group_errbacks.iter().cloned()) {
                if !of_task.contains(&errback) && !around.contains(&&errback) {
                    of_task.push(errback);
                }
            }
            let (of_task, mut unsent) = signatures(of_task.iter());
            let mut called = call_errbacks(of_task, result.id(), result.id(), style, sender, outbox);
            errbacks.unsent.append(&mut unsent);
            errbacks.unsent.append(&mut called.unsent);
            errbacks.in_process.extend(called.in_process.into_iter().map(|errback| BodyErrback {
                errback,
                id: result.id().to_owned(),
                task: "unknown".to_owned(),
                exception: cause.clone(),
            }));
            store(result.id(), cause, Some(traceback.clone()), sender, outbox);
            ids.push(result.id().to_owned());
        }
    }
    store(frozen.id(), cause, None, sender, outbox);
    let known = ids.iter().map(String::as_str).chain([frozen.id()]);
    let cause = Ending::failed(cause.clone(), Some(traceback));
    end_waiting([View::from(&group)], &cause, known, sender, outbox);
    end_waiting(rest.iter().filter_map(View::of), ending, [], sender, outbox);
    outbox.push(Effect::Revoke(ids));
    Ok(errbacks)
}

/// The errbacks linked to a body: its own, those of the first task of a chain, of a chord's body, and of the tasks of a
/// group as such.
fn body_errbacks(body: View<'_>) -> Vec<&Value> {
    let mut errbacks: Vec<&Value> = Vec::new();
    let mut pending = vec![body];
    while let Some(signature) = pending.pop() {
        let own = match signature.options.get("link_error") {
            Some(Value::List(items)) => items.iter().collect(),
            own => own.into_iter().filter(|own| !own.is_null()).collect::<Vec<_>>(),
        };
        for errback in own {
            if !errbacks.contains(&errback) {
                errbacks.push(errback);
            }
        }
        match signature.kind {
            Some("chain") => pending.extend(signature.members().into_iter().next()),
            Some("group") => pending.extend(signature.members().into_iter().rev()),
            _ => pending.extend(signature.body()),
        }
    }
    errbacks
}

/// The errbacks linked to a signature's result (`_result_errbacks`).
fn result_errbacks(task: &Node) -> Vec<Value> {
    let mut errbacks = Vec::new();
    let mut pending = vec![task];
    while let Some(task) = pending.pop() {
        errbacks.extend(maybe_list(task.options.get("link_error").cloned()));
        match &task.kind {
            Kind::Chord(chord) => pending.extend(&chord.body),
            Kind::Group(tasks) => pending.extend(tasks.iter().rev()),
            Kind::Task | Kind::Chain(_) => {}
        }
    }
    errbacks
}

/// Ends the tasks in signatures that were to be sent later, each once, but for the records of those in `known`.
///
/// A task whose results are ignored is not stored; its part of a chord is returned all the same.
fn end_waiting<'a>(
    roots: impl IntoIterator<Item = View<'a>>,
    ending: &Ending,
    known: impl IntoIterator<Item = &'a str>,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) {
    let mut seen: HashSet<&str> = known.into_iter().collect();
    let mut ignoring = HashMap::new();
    for task in waiting(roots) {
        if let Some(id) = task.id
            && seen.insert(id)
            && !ignores_result(task.signature, sender, &mut ignoring)
        {
            outbox.push(Effect::Store(Box::new(record(id, task.signature, ending, sender))));
        }
        outbox.effects.extend(part(task, ending, sender).map(|part| Effect::ChordPart(Box::new(part))));
    }
}

/// What is stored of a task that never ran.
fn record(id: &str, signature: View<'_>, ending: &Ending, sender: &Sender<'_>) -> TaskMeta {
    let text = |option: &str| signature.text(option).map(str::to_owned);
    let mut meta = TaskMeta {
        traceback: ending.traceback.clone(),
        date_done: Some(sender.now),
        group_id: text("group_id"),
        parent_id: text("parent_id"),
        ..TaskMeta::new(id, ending.state.clone(), ending.exception.to_value())
    };
    if sender.config.result_extended {
        meta.extended = extended(signature);
    }
    meta
}

/// The part of a chord that a task was to return.
fn part(task: Waiting<'_>, ending: &Ending, sender: &Sender<'_>) -> Option<ChordPart> {
    let place = task.place?;
    Some(ChordPart {
        group_id: place.group_id.to_owned(),
        task_id: task.id.map_or_else(|| (sender.new_id)(), str::to_owned),
        group_index: place.group_index,
        state: ending.state.clone(),
        result: ending.exception.to_value(),
        // Of a body that is no signature nobody can be told.
        body: Some(Signature::from_value(place.chord).ok()?),
    })
}

/// Whether a task's errors are not stored: as its call says, else as it is declared here.
fn ignores_result<'a>(
    task: View<'a>,
    sender: &Sender<'_>,
    declared: &mut HashMap<&'a str, (bool, bool)>,
) -> bool {
    let config = sender.config;
    let (ignores, stores_errors) = *declared.entry(task.task).or_insert_with(|| {
        let options = (sender.tasks)(task.task);
        let ignores = options.as_ref().and_then(|options| options.ignore_result);
        let stores_errors = options.and_then(|options| options.store_errors_even_if_ignored);
        (
            ignores.unwrap_or(config.task_ignore_result),
            stores_errors.unwrap_or(config.task_store_errors_even_if_ignored),
        )
    });
    let asked = match task.options.get("ignore_result") {
        Some(Value::Bool(ignores)) => Some(*ignores),
        _ => None,
    };
    asked.unwrap_or(ignores) && !stores_errors
}

/// Sends the errbacks of messages as one group, or each alone if they cannot be sent together.
fn call_errbacks(
    errbacks: Vec<Signature>,
    task_id: &str,
    root_id: &str,
    style: &dyn Fn(&Signature) -> ErrbackStyle,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Errbacks<Signature> {
    let (in_process, sent): (Vec<_>, Vec<_>) =
        errbacks.into_iter().partition(|errback| style(errback) == ErrbackStyle::InProcess);
    let mut unsent = Vec::new();
    let mut send = |errbacks: &[Signature]| -> Result<(), CanvasError> {
        let tasks = errbacks.iter().cloned().map(Node::from_signature).collect::<Result<_, _>>()?;
        let mut options = Map::new();
        options.insert("parent_id".to_owned(), Value::from(task_id));
        options.insert("root_id".to_owned(), Value::from(root_id));
        let mut sent = Outbox::new();
        apply_node(Node::group(tasks), vec![Value::from(task_id)], &Map::new(), options, sender, &mut sent)?;
        outbox.effects.append(&mut sent.effects);
        outbox.children.append(&mut sent.children);
        Ok(())
    };
    if !sent.is_empty() && send(&sent).is_err() {
        unsent.extend(sent.chunks(1).filter_map(|errback| send(errback).err()));
    }
    Errbacks { in_process, unsent }
}

/// Stores the failure of a chord's body. Celery takes the errbacks sent for it to be its children: they are those of
/// the task that is running, the last of the header.
fn store(
    id: &str,
    exception: &ExceptionInfo,
    traceback: Option<String>,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) {
    let meta = TaskMeta {
        traceback,
        date_done: Some(sender.now),
        children: Some(outbox.children.clone()),
        ..TaskMeta::new(id, TaskState::Failure, exception.to_value())
    };
    outbox.push(Effect::Store(Box::new(meta)));
}

/// What `result_extended` stores of a task that never ran (sample `vectors/results_extended/chain_failure_propagation`).
fn extended(step: View<'_>) -> Map {
    let retries = step.options.get("retries").cloned().unwrap_or(Value::Int(0));
    [
        ("name", Value::from(step.task)),
        ("args", Value::List(step.args.to_vec())),
        ("kwargs", Value::Map(step.kwargs.clone())),
        ("worker", Value::Null),
        ("retries", retries),
        ("queue", Value::Null),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// The signatures among values, and what is wrong with the others.
fn signatures<'a>(values: impl IntoIterator<Item = &'a Value>) -> (Vec<Signature>, Vec<CanvasError>) {
    let mut wrong = Vec::new();
    let read = values.into_iter().filter_map(|value| match Signature::from_value(value) {
        Ok(signature) => Some(signature),
        Err(error) => {
            wrong.push(error.into());
            None
        }
    });
    (read.collect(), wrong)
}
