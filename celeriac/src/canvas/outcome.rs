//! Results of signatures that are being frozen or applied.
//!
//! The results of a chain are linked each to the one before, and a chain may have a hundred thousand: whatever goes along
//! these links does so step by step.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::backend::ResultRef;

/// A result whose parent may still change; clones are the same result.
#[derive(Clone, Debug)]
pub(super) struct Outcome(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    parent: RefCell<Option<Outcome>>,
    members: Option<Vec<Outcome>>,
}

impl Outcome {
    pub(super) fn task(id: impl Into<String>) -> Self {
        Self::new(id.into(), None)
    }

    pub(super) fn group(id: impl Into<String>, members: Vec<Outcome>) -> Self {
        Self::new(id.into(), Some(members))
    }

    fn new(id: String, members: Option<Vec<Outcome>>) -> Self {
        Self(Rc::new(Inner { id, parent: RefCell::new(None), members }))
    }

    pub(super) fn id(&self) -> &str {
        &self.0.id
    }

    pub(super) fn members(&self) -> Option<&[Outcome]> {
        self.0.members.as_deref()
    }

    pub(super) fn is_group(&self) -> bool {
        self.0.members.is_some()
    }

    pub(super) fn parent(&self) -> Option<Outcome> {
        self.0.parent.borrow().clone()
    }

    pub(super) fn set_parent(&self, parent: Option<Outcome>) {
        *self.0.parent.borrow_mut() = parent;
    }

    pub(super) fn is(&self, other: &Outcome) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// The result that this one and its parents started from.
    pub(super) fn first(&self) -> Outcome {
        let mut node = self.clone();
        while let Some(parent) = node.parent() {
            node = parent;
        }
        node
    }

    pub(super) fn to_ref(&self) -> ResultRef {
        let mut line = vec![self.clone()];
        while let Some(parent) = line.last().and_then(Outcome::parent) {
            line.push(parent);
        }
        let alone = |outcome: &Outcome| {
            let mut result = ResultRef::task(outcome.id());
            result.children = outcome.members().map(|members| members.iter().map(Outcome::to_ref).collect());
            result
        };
        let mut last = alone(self);
        last.parent = line[1..].iter().rev().fold(None, |parent, outcome| {
            let mut result = alone(outcome);
            result.parent = parent;
            Some(Arc::new(result))
        });
        last
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut inner) = next.and_then(|Outcome(inner)| Rc::into_inner(inner)) {
            next = inner.parent.get_mut().take();
        }
    }
}
