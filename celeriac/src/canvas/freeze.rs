//! Freezing: giving each task its id before anything is sent.
//!
//! Source: celery 5.7 `celery/canvas.py`, the `freeze` methods and `_chain.prepare_steps`.

use std::collections::{HashSet, VecDeque};

use super::node::{Chord, Kind, Node};
use super::outcome::Outcome;
use super::{CanvasError, Sender};
use crate::message::{Map, Value};
use crate::stack::deeper;

/// Where a signature stands in what surrounds it.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Id of the last task, if it has none yet.
    pub(super) id: Option<String>,
    pub(super) group_id: Option<String>,
    pub(super) group_index: Option<i64>,
    pub(super) chord: Option<Value>,
    pub(super) root_id: Option<String>,
    pub(super) parent_id: Option<String>,
}

impl Place {
    /// No place but in a workflow.
    fn in_workflow(&self) -> Self {
        Self { root_id: self.root_id.clone(), ..Self::default() }
    }
}

impl Node {
    /// Gives ids to all tasks that have none, and notes their place.
    pub(super) fn freeze(&mut self, place: &Place, sender: &Sender<'_>) -> Result<Outcome, CanvasError> {
        match &mut self.kind {
            Kind::Task => Ok(self.freeze_task(place, sender)),
            Kind::Group(tasks) => deeper(|| freeze_group(tasks, &mut self.options, place, sender)),
            Kind::Chain(tasks) => {
                let steps = std::mem::take(tasks);
                let args = std::mem::take(&mut self.args);
                let kwargs = Map::new();
                let prepared =
                    deeper(|| prepare(steps, Partial::new(&args, &kwargs), place, &[], false, sender))?;
                *tasks = prepared.tasks.into_iter().rev().collect();
                let last = prepared.results.into_iter().next().ok_or(CanvasError::EmptyChain)?;
                self.set("task_id", last.id());
                Ok(last)
            }
            Kind::Chord(chord) => {
                let result = deeper(|| freeze_chord(chord, place, sender))?;
                let group_id =
                    chord.header_options.as_ref().and_then(|options| options.get("task_id").cloned());
                self.set("task_id", group_id);
                Ok(result)
            }
        }
    }

    fn freeze_task(&mut self, place: &Place, sender: &Sender<'_>) -> Outcome {
        let id = match self.text("task_id") {
            Some(id) => id.to_owned(),
            None => place.id.clone().unwrap_or_else(|| (sender.new_id)()),
        };
        self.set("task_id", id.as_str());
        for (option, value) in [("root_id", &place.root_id), ("parent_id", &place.parent_id)] {
            if let Some(value) = value {
                self.set(option, value.as_str());
            }
        }
        if !self.options.contains_key("reply_to") {
            self.set("reply_to", sender.reply_to);
        }
        if let Some(group_id) = &place.group_id
            && !self.options.contains_key("group_id")
        {
            self.set("group_id", group_id.as_str());
        }
        if let Some(chord) = &place.chord {
            self.set("chord", chord.clone());
        }
        if let Some(index) = place.group_index {
            self.set("group_index", index);
        }
        Outcome::task(id)
    }
}

/// Freezes a group and flattens the groups in it (`_freeze_group_tasks`); the place's id is not used.
pub(super) fn freeze_group(
    tasks: &mut Vec<Node>,
    options: &mut Map,
    place: &Place,
    sender: &Sender<'_>,
) -> Result<Outcome, CanvasError> {
    let group_id = match options.get("task_id").and_then(Value::as_str) {
        Some(id) => id.to_owned(),
        None => {
            let id = (sender.new_id)();
            options.insert("task_id".to_owned(), Value::from(id.as_str()));
            id
        }
    };
    if let Some(group_id) = &place.group_id {
        options.insert("group_id".to_owned(), Value::from(group_id.as_str()));
    }
    if let Some(chord) = &place.chord {
        options.insert("chord".to_owned(), chord.clone());
    }
    if let Some(index) = place.group_index {
        options.insert("group_index".to_owned(), Value::from(index));
    }
    let mut member_place = Place { id: None, ..place.clone() };
    for (option, value) in
        [("root_id", &mut member_place.root_id), ("parent_id", &mut member_place.parent_id)]
    {
        let stored = options.entry(option.to_owned()).or_insert_with(|| value.clone().into());
        *value = stored.as_str().map(str::to_owned);
    }
    let mut results = Vec::with_capacity(tasks.len());
    let mut pending: VecDeque<Node> = std::mem::take(tasks).into();
    while let Some(mut task) = pending.pop_front() {
        match task.kind {
            // Celery pushes the members one by one in front of the others, the last of them to come first.
            Kind::Group(members) => members.into_iter().for_each(|member| pending.push_front(member)),
            _ if task.is_empty_chain() => {}
            _ => {
                member_place.group_index = Some(results.len() as i64);
                task.thaw();
                results.push(task.freeze(&member_place, sender)?);
                tasks.push(task);
            }
        }
    }
    Ok(Outcome::group(group_id, results))
}

/// Freezes a chord. Its header does not get a copy of the body yet: it does when the chord is applied.
fn freeze_chord(chord: &mut Chord, place: &Place, sender: &Sender<'_>) -> Result<Outcome, CanvasError> {
    let header_place =
        Place { root_id: place.root_id.clone(), parent_id: place.parent_id.clone(), ..Place::default() };
    let options = chord.header_options.get_or_insert_default();
    let header_result = freeze_group(&mut chord.header, options, &header_place, sender)?;
    let body = chord.body.as_mut().ok_or(CanvasError::NoBody)?;
    let body_result = body.freeze(&Place { parent_id: None, ..place.clone() }, sender)?;
    let mut seen = HashSet::new();
    let mut node = body_result.clone();
    loop {
        if !seen.insert(node.id().to_owned()) {
            return Err(CanvasError::RecursiveResult { id: node.id().to_owned() });
        }
        match node.parent() {
            Some(parent) => node = parent,
            None => {
                node.set_parent(Some(header_result));
                return Ok(body_result);
            }
        }
    }
}

/// A chain's tasks in reverse order, with their results: what goes into a message's `chain`.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) tasks: Vec<Node>,
    pub(super) results: Vec<Outcome>,
}

/// Arguments for the first task of a chain.
#[derive(Clone, Copy)]
pub(super) struct Partial<'a> {
    args: &'a [Value],
    kwargs: &'a Map,
}

impl<'a> Partial<'a> {
    pub(super) fn new(args: &'a [Value], kwargs: &'a Map) -> Self {
        Self { args, kwargs }
    }

    fn apply_to(self, task: &mut Node, is_applied: bool) {
        if is_applied {
            match &mut task.kind {
                Kind::Chord(_) => {
                    if !task.immutable {
                        task.args.splice(0..0, self.args.iter().cloned());
                    }
                }
                _ => task.prepend(self.args, self.kwargs),
            }
        } else {
            task.args.splice(0..0, self.args.iter().cloned());
        }
    }
}

/// Unrolls and freezes a chain: nested chains are spliced in, a group that is followed by a task becomes a chord.
///
/// `is_applied` says that the chain is about to be sent; otherwise it is only frozen and keeps its chords as written.
pub(super) fn prepare(
    steps: Vec<Node>,
    partial: Partial<'_>,
    place: &Place,
    errbacks: &[Value],
    is_applied: bool,
    sender: &Sender<'_>,
) -> Result<Prepared, CanvasError> {
    let on_headers = sender.config.task_allow_error_cb_on_chord_header;
    let mut steps = with_a_task_first(steps);
    let mut prepared = Prepared::default();
    let mut previous: Option<Outcome> = None;
    let mut is_last = true;
    while let Some(task) = steps.pop_back() {
        let is_first = steps.is_empty();
        let mut task = task.unrolled();
        if task.is_empty_group() && !(is_first && prepared.tasks.is_empty()) {
            continue;
        }
        if is_applied && task.is_chord_with_task_led_chain() {
            steps.extend(task.unroll_body(on_headers));
            continue;
        }
        if is_first {
            partial.apply_to(&mut task, is_applied);
        }
        if let Kind::Chain(inner) = task.kind {
            steps.extend(inner);
            continue;
        }
        if is_applied {
            task.thaw();
        }
        if task.is_group()
            && let Some(body) = prepared.tasks.pop()
        {
            task = upgrade(task, body, &mut prepared, &mut previous, place);
        }
        let result = if is_last {
            task.freeze(&Place { parent_id: None, ..place.clone() }, sender)?
        } else {
            task.freeze(&place.in_workflow(), sender)?
        };
        is_last = false;
        if !prepared.tasks.is_empty()
            && let Some(previous) = previous.take_if(|previous| previous.parent().is_none())
        {
            previous.set_parent(Some(result.clone()));
        }
        for errback in errbacks {
            task.link_error(errback, on_headers);
        }
        // What a chord follows becomes the parent of its header.
        previous = Some(if task.is_chord() { result.first() } else { result.clone() });
        prepared.tasks.push(task);
        prepared.results.push(result);
    }
    if is_applied {
        prepared.tasks.iter_mut().for_each(Node::strip_headers);
    }
    Ok(prepared)
}

/// Makes a chord of a group and the task after it, which was prepared already.
fn upgrade(
    group: Node,
    body: Node,
    prepared: &mut Prepared,
    previous: &mut Option<Outcome>,
    place: &Place,
) -> Node {
    let body_result = prepared.results.pop();
    let mut chord = Node::chord(group.into_members(), Some(body));
    if let Some(previous) = previous.as_ref().filter(|previous| !previous.is_group()) {
        chord.set("task_id", previous.id());
    }
    chord.set("root_id", place.root_id.clone());
    // The rest of the chain follows the chord, not its body.
    let mut node = prepared.results.last().cloned();
    while let Some(result) = node {
        let parent = result.parent();
        if let (Some(parent), Some(body_result)) = (&parent, &body_result)
            && parent.is(body_result)
        {
            result.set_parent(None);
            *previous = Some(result);
            break;
        }
        node = parent;
    }
    chord
}

/// Splices leading chains and drops leading empty groups, so that the first step is one that takes the arguments.
fn with_a_task_first(steps: Vec<Node>) -> VecDeque<Node> {
    let mut steps: VecDeque<Node> = steps.into();
    let mut dropped = None;
    while let Some(head) = steps.pop_front() {
        let head = head.unrolled();
        if let Kind::Chain(inner) = head.kind {
            inner.into_iter().rev().for_each(|task| steps.push_front(task));
        } else if head.is_empty_group() && !steps.is_empty() {
            dropped = Some(head);
        } else {
            steps.push_front(head);
            break;
        }
    }
    if steps.is_empty() {
        steps.extend(dropped);
    }
    steps
}
