//! Signatures as a tree: what [`Signature`] holds as values is typed here while a canvas is worked on.
//!
//! Source: celery 5.7 `celery/canvas.py`, the `from_dict`, `clone` and `_merge` of its classes.

use super::CanvasError;
use crate::message::{Map, ProtocolError, Signature, Value};
use crate::stack::deeper;

/// How deep canvases may be nested in one signature; Celery's worker ends earlier.
const MAX_DEPTH: usize = 128;

/// A signature with its members.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) task: String,
    pub(super) args: Vec<Value>,
    /// Keyword arguments without the members.
    pub(super) kwargs: Map,
    pub(super) options: Map,
    pub(super) immutable: bool,
    pub(super) kind: Kind,
}

#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    Task,
    Chain(Vec<Node>),
    Group(Vec<Node>),
    Chord(Box<Chord>),
}

impl Clone for Kind {
    fn clone(&self) -> Self {
        match self {
            Kind::Task => Kind::Task,
            Kind::Chain(tasks) => deeper(|| Kind::Chain(tasks.clone())),
            Kind::Group(tasks) => deeper(|| Kind::Group(tasks.clone())),
            Kind::Chord(chord) => deeper(|| Kind::Chord(chord.clone())),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chord {
    pub(super) header: Vec<Node>,
    /// Options of the header as a group, which it is once frozen.
    pub(super) header_options: Option<Map>,
    pub(super) body: Option<Node>,
}

impl Node {
    pub(super) fn chain(tasks: Vec<Node>) -> Self {
        Self::canvas("celery.chain", Kind::Chain(tasks))
    }

    pub(super) fn group(tasks: Vec<Node>) -> Self {
        Self::canvas("celery.group", Kind::Group(tasks))
    }

    /// A chord; a header that is one signature stands for its members.
    pub(super) fn chord(header: Vec<Node>, body: Option<Node>) -> Self {
        let chord = Chord { header, header_options: None, body };
        let mut node = Self::canvas("celery.chord", Kind::Chord(Box::new(chord)));
        node.kwargs.insert("kwargs".to_owned(), Value::Map(Map::new()));
        node
    }

    fn canvas(task: &str, kind: Kind) -> Self {
        Self {
            task: task.to_owned(),
            args: Vec::new(),
            kwargs: Map::new(),
            options: Map::new(),
            immutable: false,
            kind,
        }
    }

    pub(super) fn from_value(value: &Value) -> Result<Self, CanvasError> {
        deeper(|| Self::from_signature(Signature::from_value(value)?))
    }

    /// Reads a signature and its members.
    ///
    /// # Errors
    /// A member is no signature, or canvases are nested deeper than what works on the tree may recur.
    pub(super) fn from_signature(signature: Signature) -> Result<Self, CanvasError> {
        Self::at_depth(signature, 0)
    }

    fn at_depth(signature: Signature, depth: usize) -> Result<Self, CanvasError> {
        if depth > MAX_DEPTH {
            return Err(ProtocolError::TooDeep { limit: MAX_DEPTH }.into());
        }
        let members = |value| members(value, depth + 1);
        let Signature { task, args, mut kwargs, options, subtask_type, immutable } = signature;
        let kind = match subtask_type.as_deref() {
            Some("chain") => Kind::Chain(members(kwargs.shift_remove("tasks"))?),
            Some("group") => Kind::Group(members(kwargs.shift_remove("tasks"))?),
            Some("chord") => {
                let header = members(kwargs.shift_remove("header"))?;
                let body = match kwargs.shift_remove("body") {
                    None | Some(Value::Null) => None,
                    Some(body) => Some(deeper(|| Self::at_depth(Signature::from_value(&body)?, depth + 1))?),
                };
                Kind::Chord(Box::new(Chord { header, header_options: None, body }))
            }
            _ => Kind::Task,
        };
        Ok(Self { task, args, kwargs, options, immutable, kind })
    }

    pub(super) fn to_signature(&self) -> Signature {
        let mut kwargs = self.kwargs.clone();
        let subtask_type = match &self.kind {
            Kind::Task => None,
            Kind::Chain(tasks) => {
                kwargs.insert("tasks".to_owned(), values(tasks));
                Some("chain")
            }
            Kind::Group(tasks) => {
                kwargs.insert("tasks".to_owned(), values(tasks));
                Some("group")
            }
            Kind::Chord(chord) => {
                let header = match &chord.header_options {
                    None => values(&chord.header),
                    Some(options) => {
                        let group = Node { options: options.clone(), ..Node::group(chord.header.clone()) };
                        group.to_value()
                    }
                };
                kwargs.insert("header".to_owned(), header);
                kwargs.insert("body".to_owned(), chord.body.as_ref().map_or(Value::Null, Node::to_value));
                Some("chord")
            }
        };
        Signature {
            task: self.task.clone(),
            args: self.args.clone(),
            kwargs,
            options: self.options.clone(),
            subtask_type: subtask_type.map(str::to_owned),
            immutable: self.immutable,
        }
    }

    pub(super) fn to_value(&self) -> Value {
        deeper(|| self.to_signature().into())
    }

    pub(super) fn is_chord(&self) -> bool {
        matches!(self.kind, Kind::Chord(_))
    }

    pub(super) fn is_group(&self) -> bool {
        matches!(self.kind, Kind::Group(_))
    }

    pub(super) fn is_chain(&self) -> bool {
        matches!(self.kind, Kind::Chain(_))
    }

    pub(super) fn is_empty_group(&self) -> bool {
        matches!(&self.kind, Kind::Group(tasks) if tasks.is_empty())
    }

    pub(super) fn is_empty_chain(&self) -> bool {
        matches!(&self.kind, Kind::Chain(tasks) if tasks.is_empty())
    }

    /// Whether this is a chord whose body is a chain that starts with anything but a group.
    pub(super) fn is_chord_with_task_led_chain(&self) -> bool {
        let Kind::Chord(chord) = &self.kind else { return false };
        let Some(Node { kind: Kind::Chain(tasks), .. }) = &chord.body else { return false };
        tasks.first().is_some_and(|first| !first.is_group())
    }

    /// A group of one task is that task.
    pub(super) fn unrolled(mut self) -> Self {
        match &mut self.kind {
            Kind::Group(tasks) if tasks.len() == 1 => tasks.remove(0),
            _ => self,
        }
    }

    /// The text of an option, if it is one.
    pub(super) fn text(&self, option: &str) -> Option<&str> {
        self.options.get(option).and_then(Value::as_str)
    }

    pub(super) fn set(&mut self, option: &str, value: impl Into<Value>) {
        self.options.insert(option.to_owned(), value.into());
    }

    /// Takes arguments before and over the stored ones, and options over the stored ones (`Signature._merge`).
    pub(super) fn merge(&mut self, args: Vec<Value>, kwargs: &Map, options: Map) {
        merge_options(&mut self.options, options);
        self.prepend(&args, kwargs);
    }

    /// Takes arguments before and over the stored ones.
    pub(super) fn prepend(&mut self, args: &[Value], kwargs: &Map) {
        if self.immutable {
            return;
        }
        match &mut self.kind {
            Kind::Group(tasks) => tasks.iter_mut().for_each(|task| task.prepend(args, kwargs)),
            _ => {
                self.args.splice(0..0, args.iter().cloned());
                self.kwargs.extend(kwargs.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
        }
    }

    /// How many parts of a chord this makes (`_chord._descend`).
    pub(super) fn chord_size(&self) -> usize {
        match &self.kind {
            Kind::Task => 1,
            Kind::Group(tasks) => tasks.iter().map(Node::chord_size).sum(),
            Kind::Chain(tasks) => {
                tasks.iter().rev().map(Node::chord_size).find(|size| *size > 0).unwrap_or_default()
            }
            Kind::Chord(chord) => chord.body.as_ref().map_or(0, Node::chord_size),
        }
    }

    /// Forgets the group ids of chords, as Celery's `clone` does: the next freezing makes new ones.
    pub(super) fn thaw(&mut self) {
        match &mut self.kind {
            Kind::Task | Kind::Group(_) => {}
            Kind::Chain(tasks) => tasks.iter_mut().for_each(Node::thaw),
            Kind::Chord(chord) => {
                if chord.header_options.take().is_none() {
                    chord.header.iter_mut().for_each(Node::thaw);
                }
                chord.body.iter_mut().for_each(Node::thaw);
            }
        }
    }

    /// Removes the chord from what ends this signature (`_clear_chord_option`).
    fn clear_chord(&mut self) {
        self.options.shift_remove("chord");
        match &mut self.kind {
            Kind::Task => {}
            Kind::Group(tasks) => tasks.iter_mut().for_each(Node::clear_chord),
            Kind::Chain(tasks) => tasks.iter_mut().last().into_iter().for_each(Node::clear_chord),
            Kind::Chord(chord) => chord.body.iter_mut().for_each(Node::clear_chord),
        }
    }

    /// Removes the copies of their body from the headers of chords: applying a chord puts them back
    /// (`_strip_chord_header_links`).
    pub(super) fn strip_headers(&mut self) {
        match &mut self.kind {
            Kind::Task => {}
            Kind::Group(tasks) | Kind::Chain(tasks) => tasks.iter_mut().for_each(Node::strip_headers),
            Kind::Chord(chord) => {
                if let Some(options) = &mut chord.header_options {
                    options.shift_remove("chord");
                }
                for task in &mut chord.header {
                    task.clear_chord();
                    task.strip_headers();
                }
                chord.body.iter_mut().for_each(Node::strip_headers);
            }
        }
    }
}

/// Takes options over the stored ones; the group id and the stamps stay as stored.
pub(super) fn merge_options(stored: &mut Map, options: Map) {
    let stamps = stored.get("stamped_headers").and_then(Value::as_list).unwrap_or_default().to_vec();
    for (name, value) in options {
        let is_fixed = name == "group_id"
            || name == "stamped_headers"
            || stamps.iter().any(|stamp| stamp.as_str() == Some(&name));
        if !(is_fixed && stored.contains_key(&name)) {
            stored.insert(name, value);
        }
    }
}

/// Celery's `maybe_list`: nothing, one, or several.
pub(super) fn maybe_list(value: Option<Value>) -> Vec<Value> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::List(items)) => items,
        Some(item) => vec![item],
    }
}

/// Appends to an option that holds a list, unless it is there (`append_to_list_option`).
pub(super) fn append(options: &mut Map, key: &str, value: Value) {
    let mut items = maybe_list(options.get_mut(key).map(std::mem::take));
    if !items.contains(&value) {
        items.push(value);
    }
    options.insert(key.to_owned(), Value::List(items));
}

/// Appends several to an option that holds a list (`extend_list_option`).
pub(super) fn extend(options: &mut Map, key: &str, values: Vec<Value>) {
    if !values.is_empty() {
        let mut items = maybe_list(options.get_mut(key).map(std::mem::take));
        items.extend(values);
        options.insert(key.to_owned(), Value::List(items));
    }
}

/// The members of a canvas; a canvas in their place stands for its own, another signature for itself
/// (`_maybe_group`).
fn members(value: Option<Value>, depth: usize) -> Result<Vec<Node>, CanvasError> {
    let read = |value: &Value| deeper(|| Node::at_depth(Signature::from_value(value)?, depth));
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::List(items)) => items.iter().map(read).collect(),
        Some(signature) => {
            let node = read(&signature)?;
            Ok(match node.kind {
                Kind::Group(tasks) | Kind::Chain(tasks) => tasks,
                _ => vec![node],
            })
        }
    }
}

fn values(nodes: &[Node]) -> Value {
    nodes.iter().map(Node::to_value).collect()
}
