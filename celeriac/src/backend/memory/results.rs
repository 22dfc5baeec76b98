//! The records of tasks and groups that a server in memory keeps.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::chords::Chords;
use crate::backend::TaskState;

/// Everything that is kept of results.
#[derive(Default)]
pub(crate) struct Results {
    records: HashMap<String, Record>,
    groups: HashMap<String, Kept<Vec<u8>>>,
    pub(super) chords: Chords,
}

/// The record of a task, as it is written.
struct Record {
    status: TaskState,
    kept: Kept<Vec<u8>>,
}

/// Something that is kept until it expires; `None` for ever.
struct Kept<T> {
    value: T,
    until: Option<DateTime<Utc>>,
}

impl<T> Kept<T> {
    fn at(&self, now: DateTime<Utc>) -> Option<&T> {
        self.until.is_none_or(|until| now < until).then_some(&self.value)
    }
}

/// Returns the time at which that expires which is kept for so many seconds; 0 is for ever.
pub(super) fn until(now: DateTime<Utc>, seconds: u64) -> Option<DateTime<Utc>> {
    let seconds = TimeDelta::try_seconds(i64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?)?;
    now.checked_add_signed(seconds)
}

impl Results {
    /// Stores a record that expires after so many seconds; one that is not `fresh` does not overwrite a success.
    pub(super) fn store(
        &mut self,
        now: DateTime<Utc>,
        task_id: &str,
        status: TaskState,
        record: Vec<u8>,
        (expires, fresh): (u64, bool),
    ) -> bool {
        let stored = self.records.get(task_id).filter(|stored| stored.kept.at(now).is_some());
        if !fresh && stored.is_some_and(|stored| stored.status == TaskState::Success) {
            return false;
        }
        let kept = Kept { value: record, until: until(now, expires) };
        self.records.insert(task_id.to_owned(), Record { status, kept });
        true
    }

    /// Returns the record of a task.
    pub(super) fn record(&self, now: DateTime<Utc>, task_id: &str) -> Option<&[u8]> {
        self.records.get(task_id)?.kept.at(now).map(Vec::as_slice)
    }

    /// Returns the state of a task; pending when nothing is kept.
    pub(super) fn status(&self, now: DateTime<Utc>, task_id: &str) -> TaskState {
        let stored = self.records.get(task_id).filter(|stored| stored.kept.at(now).is_some());
        stored.map_or(TaskState::Pending, |stored| stored.status.clone())
    }

    /// Returns the ids of all tasks of which a record is kept.
    pub(crate) fn task_ids(&self, now: DateTime<Utc>) -> Vec<String> {
        let kept = self.records.iter().filter(|(_, record)| record.kept.at(now).is_some());
        kept.map(|(id, _)| id.clone()).collect()
    }

    /// Removes the record of a task.
    pub(super) fn forget(&mut self, task_id: &str) {
        self.records.remove(task_id);
    }

    /// Keeps the shape of a group for so many seconds.
    pub(super) fn save_group(&mut self, now: DateTime<Utc>, group_id: &str, record: Vec<u8>, expires: u64) {
        self.groups.insert(group_id.to_owned(), Kept { value: record, until: until(now, expires) });
    }

    /// Returns the shape of a group.
    pub(super) fn group(&self, now: DateTime<Utc>, group_id: &str) -> Option<&[u8]> {
        self.groups.get(group_id)?.at(now).map(Vec::as_slice)
    }

    /// Removes the shape of a group.
    pub(super) fn delete_group(&mut self, group_id: &str) {
        self.groups.remove(group_id);
    }

    /// Returns how many chords are registered: only a worker goes on with them.
    pub(crate) fn unsent_chords(&self) -> u64 {
        self.chords.unsent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_copy_does_not_overwrite_a_success_that_is_still_kept() {
        let (mut results, now) = (Results::default(), Utc::now());
        assert!(results.store(now, "a", TaskState::Success, b"1".to_vec(), (60, true)));
        assert!(!results.store(now, "a", TaskState::Failure, b"2".to_vec(), (60, false)));
        assert_eq!(results.record(now, "a"), Some(&b"1"[..]));
        let later = now + TimeDelta::seconds(60);
        assert_eq!(results.record(later, "a"), None, "it has expired");
        assert!(results.store(later, "a", TaskState::Failure, b"2".to_vec(), (0, false)));
        assert_eq!(results.record(later + TimeDelta::days(9999), "a"), Some(&b"2"[..]));
        results.forget("a");
        assert!(results.task_ids(later).is_empty());
    }
}
