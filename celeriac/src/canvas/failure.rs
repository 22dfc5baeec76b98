//! What follows a task that failed: the rest of its chain fails, its errbacks are called, its chord fails.
//!
//! Source: celery 5.7 `mark_as_failure`, `_fail_chain`, `_call_task_errbacks`, `chord_error_from_stack` in
//! `celery/backends/base.py`; samples `vectors/results/chain_failure_propagation.json`, `chord_header_error.json`.

use std::collections::VecDeque;

use super::apply::apply_node;
use super::freeze::Place;
use super::node::{Kind, Node, maybe_list};
use super::{CanvasError, Effect, Outbox, Sender};
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

/// A failure as it goes on to others.
#[derive(Clone, Copy)]
struct Cause<'a> {
    exception: &'a ExceptionInfo,
    traceback: Option<&'a str>,
}

/// Fails what waits for a task that failed, and sends its errbacks. The task's own record and part are the caller's.
///
/// `stores` says whether failures are stored: not if the task's results are ignored. Returns the errbacks to be called
/// in process.
///
/// # Errors
/// An errback cannot be sent; the others and the rest of the chain are in the outbox.
pub fn on_failure(
    request: &Request,
    exception: &ExceptionInfo,
    traceback: Option<&str>,
    stores: bool,
    style: &dyn Fn(&Signature) -> ErrbackStyle,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<Vec<Signature>, CanvasError> {
    let sender = &Sender { parent: Some(request), ..*sender };
    let embed = &request.body.embed;
    fail_chain(embed.chain.clone(), Cause { exception, traceback }, stores, sender, outbox)?;
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

/// Fails a chord's body: its errbacks are called, and it and what follows it get a failure; a group as body gets
/// `cause` on each of its tasks, which are revoked.
///
/// `exception` is the `ChordError`, `cause` the exception of the part that failed. Returns the errbacks to be called in
/// process.
///
/// # Errors
/// The body is malformed, or an errback cannot be sent.
pub fn chord_error(
    body: &Signature,
    exception: &ExceptionInfo,
    cause: &ExceptionInfo,
    request: &Request,
    style: &dyn Fn(&Signature) -> ErrbackStyle,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<Vec<BodyErrback>, CanvasError> {
    let sender = &Sender { parent: Some(request), ..*sender };
    let mut node = Node::from_signature(body.clone())?;
    let rest = signatures(node.options.get("chain"))?;
    let mut in_process = Vec::new();
    if node.is_group() {
        let traceback = cause.traceback(None);
        let cause = Cause { exception: cause, traceback: Some(&traceback) };
        fail_group(&mut node, cause, style, sender, outbox, &mut in_process)?;
    } else {
        let id = node.text("task_id").map_or_else(|| (sender.new_id)(), str::to_owned);
        let errbacks = signatures(node.options.get("link_error"))?;
        let called = call_errbacks(errbacks, &id, &id, style, sender, outbox)?;
        in_process.extend(called.into_iter().map(|errback| BodyErrback {
            errback,
            id: id.clone(),
            task: body.task.clone(),
            exception: exception.clone(),
        }));
        let traceback = exception.traceback(None);
        store(&id, Cause { exception, traceback: Some(&traceback) }, sender, outbox);
    }
    fail_chain(rest, Cause { exception, traceback: None }, true, sender, outbox)?;
    Ok(in_process)
}

fn fail_group(
    node: &mut Node,
    cause: Cause<'_>,
    style: &dyn Fn(&Signature) -> ErrbackStyle,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
    in_process: &mut Vec<BodyErrback>,
) -> Result<(), CanvasError> {
    let frozen = node.freeze(&Place::default(), sender)?;
    let group_errbacks = maybe_list(node.options.get("link_error").cloned());
    let Kind::Group(tasks) = &node.kind else { return Ok(()) };
    let mut ids = Vec::new();
    for (task, result) in tasks.iter().zip(frozen.members().unwrap_or_default()) {
        let (_, task_errbacks) = result_errbacks(task);
        let mut errbacks = Vec::new();
        for errback in task_errbacks.into_iter().chain(group_errbacks.iter().cloned()) {
            if !errbacks.contains(&errback) {
                errbacks.push(errback);
            }
        }
        let errbacks = errbacks.iter().map(Signature::from_value).collect::<Result<Vec<_>, _>>()?;
        let called = call_errbacks(errbacks, result.id(), result.id(), style, sender, outbox)?;
        in_process.extend(called.into_iter().map(|errback| BodyErrback {
            errback,
            id: result.id().to_owned(),
            task: "unknown".to_owned(),
            exception: cause.exception.clone(),
        }));
        store(result.id(), cause, sender, outbox);
        ids.push(result.id().to_owned());
    }
    store(frozen.id(), Cause { traceback: None, ..cause }, sender, outbox);
    outbox.push(Effect::Revoke(ids));
    Ok(())
}

/// The id of a signature's result, and the errbacks linked to it (`_result_errbacks`).
fn result_errbacks(task: &Node) -> (Option<&str>, Vec<Value>) {
    let mut task = task;
    let mut errbacks = maybe_list(task.options.get("link_error").cloned());
    while let Kind::Chord(chord) = &task.kind
        && let Some(body) = &chord.body
    {
        task = body;
        errbacks.extend(maybe_list(task.options.get("link_error").cloned()));
    }
    if let Kind::Group(tasks) = &task.kind {
        tasks.iter().for_each(|task| errbacks.extend(result_errbacks(task).1));
    }
    (task.text("task_id"), errbacks)
}

/// Stores the failure for each later step of a chain, and returns the parts of chords among them.
fn fail_chain(
    chain: Vec<Signature>,
    cause: Cause<'_>,
    stores: bool,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<(), CanvasError> {
    let mut steps: VecDeque<Signature> = chain.into();
    while let Some(step) = steps.pop_front() {
        let text = |option: &str| step.options.get(option).and_then(Value::as_str).map(str::to_owned);
        let id = text("task_id");
        if let (Some(id), true) = (&id, stores) {
            let mut meta = failure_meta(id, cause, sender);
            meta.group_id = text("group_id");
            meta.parent_id = text("parent_id");
            if sender.config.result_extended {
                meta.extended = extended(&step);
            }
            outbox.push(Effect::Store(Box::new(meta)));
        }
        let chord = step.options.get("chord").filter(|chord| !chord.is_null());
        if let (Some(task_id), Some(group_id), Some(chord)) = (id, text("group_id"), chord) {
            outbox.push(Effect::ChordPart(Box::new(ChordPart {
                group_id,
                task_id,
                group_index: step.options.get("group_index").and_then(Value::as_i64),
                state: TaskState::Failure,
                result: cause.exception.to_value(),
                body: Signature::from_value(chord)?,
            })));
        }
        // A chord ends with its body: later steps and an outer chord wait for that.
        if step.is_chord()
            && let Some(body) = step.kwargs.get("body").filter(|body| !body.is_null())
        {
            steps.push_back(Signature::from_value(body)?);
        }
    }
    Ok(())
}

/// Sends the errbacks of messages as one group, and returns those to be called in process.
fn call_errbacks(
    errbacks: Vec<Signature>,
    task_id: &str,
    root_id: &str,
    style: &dyn Fn(&Signature) -> ErrbackStyle,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<Vec<Signature>, CanvasError> {
    let (in_process, sent): (Vec<_>, Vec<_>) =
        errbacks.into_iter().partition(|errback| style(errback) == ErrbackStyle::InProcess);
    if !sent.is_empty() {
        let group = Node::group(sent.into_iter().map(Node::from_signature).collect::<Result<_, _>>()?);
        let mut options = Map::new();
        options.insert("parent_id".to_owned(), Value::from(task_id));
        options.insert("root_id".to_owned(), Value::from(root_id));
        apply_node(group, vec![Value::from(task_id)], &Map::new(), options, sender, outbox)?;
    }
    Ok(in_process)
}

/// Stores the failure of a chord's body. Celery takes the errbacks sent for it to be its children: they are those of
/// the task that is running, the last of the header.
fn store(id: &str, cause: Cause<'_>, sender: &Sender<'_>, outbox: &mut Outbox) {
    let meta = TaskMeta { children: Some(outbox.children.clone()), ..failure_meta(id, cause, sender) };
    outbox.push(Effect::Store(Box::new(meta)));
}

fn failure_meta(id: &str, cause: Cause<'_>, sender: &Sender<'_>) -> TaskMeta {
    TaskMeta {
        traceback: cause.traceback.map(str::to_owned),
        date_done: Some(sender.now),
        ..TaskMeta::new(id, TaskState::Failure, cause.exception.to_value())
    }
}

/// What `result_extended` stores of a task that never ran (sample `vectors/results_extended/chain_failure_propagation`).
fn extended(step: &Signature) -> Map {
    let retries = step.options.get("retries").cloned().unwrap_or(Value::Int(0));
    [
        ("name", Value::from(step.task.as_str())),
        ("args", Value::List(step.args.clone())),
        ("kwargs", Value::Map(step.kwargs.clone())),
        ("worker", Value::Null),
        ("retries", retries),
        ("queue", Value::Null),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn signatures(option: Option<&Value>) -> Result<Vec<Signature>, CanvasError> {
    maybe_list(option.cloned()).iter().map(|signature| Ok(Signature::from_value(signature)?)).collect()
}
