use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use uuid::Uuid;

use crate::store::Once;

/// The ids of what a request makes: at random, but for a request that must not take effect twice.
pub(super) struct Ids<'a> {
    once: Option<&'a Once>,
    given: Mutex<BTreeMap<&'static str, u32>>,
}

/// The id of something that is to be made.
#[derive(Clone, Copy)]
pub(super) struct NewId {
    pub(super) id: Uuid,
    /// An earlier process may have made it when it worked on the same request.
    pub(super) may_be_taken: bool,
}

impl<'a> Ids<'a> {
    pub(super) fn new(once: Option<&'a Once>) -> Self {
        Self { once, given: Mutex::default() }
    }

    /// Returns the id of the next one of a kind.
    pub(super) fn next(&self, kind: &'static str) -> NewId {
        let Some(once) = self.once else { return NewId { id: Uuid::new_v4(), may_be_taken: false } };
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let number = given.entry(kind).or_insert(0);
        *number += 1;
        NewId { id: once.id(kind, *number), may_be_taken: true }
    }
}
