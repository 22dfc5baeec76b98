//! Which tasks are not to be run.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::message::{Headers, Value};

/// How many ids are kept, as many as Celery keeps (`CELERY_WORKER_REVOKES_MAX`).
pub(crate) const LIMIT: usize = 50_000;
/// How long an id is kept. Celery forgets after three hours, and runs a task with a later eta (`REVOKE_EXPIRES`).
pub(crate) const KEPT: Duration = Duration::from_secs(7 * 86_400);

/// Revoked ids, bounded in number and time, and revoked stamps.
///
/// Source: celery 5.7 `celery/worker/state.py`.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    ids: HashMap<String, Instant>,
    order: VecDeque<(Instant, String)>,
    stamps: HashMap<String, Vec<Value>>,
    changes: u64,
}

impl Revoked {
    /// Adds an id.
    pub(crate) fn add(&mut self, id: impl Into<String>) {
        self.add_aged(id, Duration::ZERO);
    }

    /// Adds an id that was revoked so long ago; older ones are to be added first.
    pub(crate) fn add_aged(&mut self, id: impl Into<String>, age: Duration) {
        let (id, now) = (id.into(), Instant::now());
        let Some(added) = now.checked_sub(age).filter(|_| age < KEPT) else { return };
        self.ids.insert(id.clone(), added);
        self.order.push_back((added, id));
        self.changes += 1;
        self.purge(now);
    }

    /// How often something was added.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// The revoked ids with the time since, oldest first.
    pub(crate) fn ages(&self) -> impl Iterator<Item = (&str, Duration)> {
        let current =
            |(added, id): &&(Instant, String)| self.ids.get(id) == Some(added) && added.elapsed() < KEPT;
        self.order.iter().filter(current).map(|(added, id)| (id.as_str(), added.elapsed()))
    }

    /// Whether the id is revoked.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.ids.get(id).is_some_and(|added| added.elapsed() < KEPT)
    }

    /// The revoked ids, oldest first.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.ages().map(|(id, _)| id.to_owned()).collect()
    }

    /// How many ids are remembered.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether nothing is revoked.
    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.stamps.is_empty()
    }

    /// Revokes every task with one of those values of a stamp.
    pub(crate) fn add_stamp(&mut self, name: &str, values: Vec<Value>) {
        self.changes += 1;
        let known = self.stamps.entry(name.to_owned()).or_default();
        for value in values {
            if !known.contains(&value) {
                known.push(value);
            }
        }
    }

    /// The revoked stamps.
    pub(crate) fn stamps(&self) -> &HashMap<String, Vec<Value>> {
        &self.stamps
    }

    /// Whether a message of those headers is revoked, by its id or by one of its stamps.
    pub(crate) fn matches(&self, headers: &Headers) -> bool {
        if headers.id.as_deref().is_some_and(|id| self.contains(id)) {
            return true;
        }
        !self.stamps.is_empty()
            && headers.stamped_headers.iter().flatten().any(|name| {
                let (Some(revoked), Some(stamp)) = (self.stamps.get(name), headers.stamps.get(name)) else {
                    return false;
                };
                let stamps = if let Value::List(items) = stamp {
                    items.as_slice()
                } else {
                    std::slice::from_ref(stamp)
                };
                stamps.iter().any(|stamp| revoked.contains(stamp))
            })
    }

    fn purge(&mut self, now: Instant) {
        while let Some((added, id)) = self.order.front() {
            if self.ids.len() <= LIMIT && now.duration_since(*added) < KEPT && self.order.len() <= 2 * LIMIT {
                break;
            }
            if self.ids.get(id) == Some(added) {
                self.ids.remove(id);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_ids_give_way() {
        let mut revoked = Revoked::default();
        for number in 0..=LIMIT {
            revoked.add(number.to_string());
        }
        assert!(!revoked.contains("0"));
        assert!(revoked.contains("1"));
        assert_eq!(revoked.ids().len(), LIMIT);
    }

    #[test]
    fn a_stamp_revokes_by_any_equal_element() {
        let mut revoked = Revoked::default();
        revoked.add_stamp("tenant", vec![Value::from("acme")]);
        let mut headers = Headers { stamped_headers: Some(vec!["tenant".to_owned()]), ..Headers::default() };
        headers.stamps.insert("tenant".to_owned(), crate::value!(["other", "acme"]));
        assert!(revoked.matches(&headers));
        headers.stamps.insert("tenant".to_owned(), crate::value!("other"));
        assert!(!revoked.matches(&headers));
    }
}
