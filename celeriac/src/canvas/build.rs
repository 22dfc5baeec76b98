//! Building canvases: `chain`, `group`, `chord`, `map`, links, stamps, and `|`.

use std::ops::BitOr;

use super::node::Node;
use super::options::sending_options;
use crate::message::{Map, Signature, Value};

/// Tasks that run one after the other, each with the result of the one before as its first argument.
///
/// As in Celery, a group that is followed by a task becomes a chord.
///
/// ```
/// use celeriac::canvas::chain;
/// use celeriac::message::Signature;
///
/// let sum = chain([Signature::new("add").args([2, 2]), Signature::new("add").args([4])]);
/// assert_eq!(sum, Signature::new("add").args([2, 2]) | Signature::new("add").args([4]));
/// ```
pub fn chain(tasks: impl IntoIterator<Item = impl Into<Signature>>) -> Signature {
    let tasks: Vec<Signature> = tasks.into_iter().map(Into::into).collect();
    match tasks.iter().cloned().map(Node::from_signature).collect::<Result<Vec<_>, _>>() {
        Ok(nodes) => nodes.into_iter().fold(Node::chain(Vec::new()), Node::or).to_signature(),
        // Applying it will say what is wrong with it.
        Err(_) => canvas("celery.chain", "chain", [("tasks", tasks.into_iter().map(Value::from).collect())]),
    }
}

/// Tasks that run at the same time.
pub fn group(tasks: impl IntoIterator<Item = impl Into<Signature>>) -> Signature {
    let tasks = tasks.into_iter().map(|task| task.into().to_value()).collect();
    canvas("celery.group", "group", [("tasks", tasks)])
}

/// Tasks that run at the same time, and a body that runs with the list of their results.
pub fn chord(
    header: impl IntoIterator<Item = impl Into<Signature>>,
    body: impl Into<Signature>,
) -> Signature {
    let header = header.into_iter().map(|task| task.into().to_value()).collect();
    let kwargs = [("kwargs", Value::Map(Map::new())), ("header", header), ("body", body.into().to_value())];
    canvas("celery.chord", "chord", kwargs)
}

/// One task that calls `task` for each item and returns the list of results.
pub fn map(task: impl Into<Signature>, items: impl IntoIterator<Item = impl Into<Value>>) -> Signature {
    over_items("celery.map", task.into(), items).immutable(true)
}

/// One task that calls `task` for each item, a list of arguments, and returns the list of results.
pub fn starmap(task: impl Into<Signature>, items: impl IntoIterator<Item = impl Into<Value>>) -> Signature {
    over_items("celery.starmap", task.into(), items).immutable(true)
}

/// A group of [`starmap`]s over `size` items each.
pub fn chunks(
    task: impl Into<Signature>,
    items: impl IntoIterator<Item = impl Into<Value>>,
    size: usize,
) -> Signature {
    over_items("celery.chunks", task.into(), items).kwarg("n", size).immutable(true)
}

impl Signature {
    /// Adds a task that runs with the result: after a chord's body, after a group's first task.
    #[must_use]
    pub fn link(self, callback: impl Into<Signature>) -> Self {
        let callback = callback.into().to_value();
        self.edit(|node| node.link(callback))
    }

    /// Adds a task that runs when this fails, with the id of the failed task: for each task of a group, for a chord's
    /// body.
    #[must_use]
    pub fn link_error(self, errback: impl Into<Signature>) -> Self {
        let errback = errback.into().to_value();
        self.edit(|node| node.link_error(&errback, false))
    }

    /// Adds values that travel in the headers of all messages of this signature, its members and links.
    #[must_use]
    pub fn stamp(self, stamps: impl IntoIterator<Item = (impl Into<String>, impl Into<Value>)>) -> Self {
        let stamps = stamps.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self.edit(|node| node.stamp(&stamps))
    }

    sending_options!(#[must_use]);

    fn edit(self, change: impl FnOnce(&mut Node)) -> Self {
        match Node::from_signature(self.clone()) {
            Ok(mut node) => {
                change(&mut node);
                node.to_signature()
            }
            // Applying it will say what is wrong with it.
            Err(_) => self,
        }
    }
}

impl<S: Into<Signature>> BitOr<S> for Signature {
    type Output = Signature;

    /// Celery's `|`: the other task after this one.
    fn bitor(self, other: S) -> Signature {
        let other = other.into();
        match (Node::from_signature(self.clone()), Node::from_signature(other.clone())) {
            (Ok(first), Ok(second)) => first.or(second).to_signature(),
            // Applying it will say what is wrong with it.
            _ => canvas(
                "celery.chain",
                "chain",
                [("tasks", [self, other].map(Value::from).into_iter().collect())],
            ),
        }
    }
}

fn over_items(name: &str, task: Signature, items: impl IntoIterator<Item = impl Into<Value>>) -> Signature {
    let items: Value = items.into_iter().map(Into::into).collect();
    Signature::new(name).kwarg("task", task).kwarg("it", items)
}

fn canvas<const N: usize>(task: &str, subtask_type: &str, kwargs: [(&str, Value); N]) -> Signature {
    let mut signature = Signature::new(task);
    signature.subtask_type = Some(subtask_type.to_owned());
    signature.kwargs.extend(kwargs.map(|(name, value)| (name.to_owned(), value)));
    signature
}
