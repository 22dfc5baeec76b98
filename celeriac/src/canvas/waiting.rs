//! The tasks in signatures that were to be sent later and never will be.
//!
//! A signature is looked at as it lies in its message: nothing is copied, and nothing here recurses, however deep the
//! sender has nested it.

use std::collections::VecDeque;

use crate::message::{Map, Signature, Value};

/// A signature where it lies: one of its own, or the object of one within another.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) task: &'a str,
    pub(super) args: &'a [Value],
    pub(super) kwargs: &'a Map,
    pub(super) options: &'a Map,
    pub(super) kind: Option<&'a str>,
}

impl<'a> From<&'a Signature> for View<'a> {
    fn from(signature: &'a Signature) -> Self {
        let Signature { task, args, kwargs, options, subtask_type, .. } = signature;
        Self { task, args, kwargs, options, kind: subtask_type.as_deref() }
    }
}

impl<'a> View<'a> {
    /// The signature that an object stands for; what it lacks is empty, `None` when it is no object.
    pub(super) fn of(value: &'a Value) -> Option<Self> {
        let Value::Map(entries) = value else { return None };
        Some(Self {
            task: entries.get("task").and_then(Value::as_str).unwrap_or_default(),
            args: entries.get("args").and_then(Value::as_list).unwrap_or_default(),
            kwargs: map(entries.get("kwargs")),
            options: map(entries.get("options")),
            kind: entries.get("subtask_type").and_then(Value::as_str),
        })
    }

    pub(super) fn text(self, option: &str) -> Option<&'a str> {
        self.options.get(option).and_then(Value::as_str)
    }

    /// The body, if this is a chord that has one.
    pub(super) fn body(self) -> Option<Self> {
        self.kwargs.get("body").filter(|_| self.kind == Some("chord")).and_then(Self::of)
    }

    /// The members of a chain or group, or a chord's header.
    pub(super) fn members(self) -> Vec<Self> {
        let key = match self.kind {
            Some("chain" | "group") => "tasks",
            Some("chord") => "header",
            _ => return Vec::new(),
        };
        match self.kwargs.get(key) {
            Some(Value::List(items)) => items.iter().filter_map(Self::of).collect(),
            // A header is a group once it is frozen; a canvas in the place of members stands for its own.
            Some(canvas) => match Self::of(canvas) {
                Some(canvas @ View { kind: Some("chain" | "group"), .. }) => canvas.members(),
                Some(task) => vec![task],
                None => Vec::new(),
            },
            None => Vec::new(),
        }
    }

    /// The signatures that an option holds: one, or a list of them.
    pub(super) fn listed(self, option: &str) -> Vec<Self> {
        match self.options.get(option) {
            Some(Value::List(items)) => items.iter().filter_map(Self::of).collect(),
            Some(item) => Self::of(item).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// The chord that the signature's own options make it a part of.
    fn place(self) -> Option<Place<'a>> {
        let chord = self.options.get("chord").filter(|chord| !chord.is_null())?;
        let group_index = self.options.get("group_index").and_then(Value::as_i64);
        Some(Place { chord, group_id: self.text("group_id")?, group_index })
    }
}

/// Where a task stands in a chord.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The chord's body.
    pub(super) chord: &'a Value,
    pub(super) group_id: &'a str,
    pub(super) group_index: Option<i64>,
}

/// A task, or a canvas with an id of its own, that waits to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting<'a> {
    pub(super) signature: View<'a>,
    /// The id that its result is asked for by, if it has one yet.
    pub(super) id: Option<&'a str>,
    /// The chord that counts it.
    pub(super) place: Option<Place<'a>>,
}

/// What a signature takes from the canvas around it.
#[derive(Clone, Copy, Default)]
struct Around<'a> {
    /// The id of a chain is that of its last task.
    id: Option<&'a str>,
    place: Option<Place<'a>>,
    /// Nobody counts the parts of a chord that was never sent.
    is_in_header: bool,
}

/// All tasks in signatures, in order, those nested deeper after the others: members, headers and bodies, what is chained
/// and what is linked to them.
pub(super) fn waiting<'a>(roots: impl IntoIterator<Item = View<'a>>) -> Vec<Waiting<'a>> {
    let mut all = Vec::new();
    let mut pending: VecDeque<(View<'a>, Around<'a>)> =
        roots.into_iter().map(|root| (root, Around::default())).collect();
    while let Some((signature, around)) = pending.pop_front() {
        let id = signature.text("task_id").or(around.id);
        let place = signature.place().or(around.place).filter(|_| !around.is_in_header);
        let inner = Around { id: None, place, ..around };
        let mut queue = |views: Vec<View<'a>>, around| {
            pending.extend(views.into_iter().map(|view| (view, around)));
        };
        let is_counted = match signature.kind {
            Some("chain") => {
                let mut steps = signature.members();
                let last = steps.pop();
                queue(steps, Around { place: None, ..inner });
                queue(last.into_iter().collect(), Around { id, ..inner });
                false
            }
            Some("group") => {
                queue(signature.members(), inner);
                false
            }
            Some("chord") => {
                queue(signature.members(), Around { is_in_header: true, ..Around::default() });
                queue(signature.body().into_iter().collect(), inner);
                false
            }
            _ => true,
        };
        for option in ["chain", "link"] {
            queue(signature.listed(option), Around { place: None, ..inner });
        }
        all.push(Waiting { signature, id, place: place.filter(|_| is_counted) });
    }
    all
}

fn map(value: Option<&Value>) -> &Map {
    static EMPTY: std::sync::LazyLock<Map> = std::sync::LazyLock::new(Map::new);
    match value {
        Some(Value::Map(entries)) => entries,
        _ => &EMPTY,
    }
}
