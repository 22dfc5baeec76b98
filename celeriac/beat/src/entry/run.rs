//! One run of an entry.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Entry;

/// One run of an entry: the task message that is to be sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The task id. It is made of the entry, its count of runs and the time for which the run was scheduled, so that the
    /// same run has the same id whichever beat sends it, however often.
    pub id: Uuid,
    /// Name of the entry.
    pub entry: String,
    /// Name of the task.
    pub task: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// Options of `apply_async`.
    pub options: Map<String, Value>,
    /// The time for which the run was scheduled.
    pub run_at: DateTime<Utc>,
}

impl Run {
    pub(super) fn of(entry: &Entry, slot: DateTime<Utc>) -> Self {
        let Entry { name, task, args, kwargs, options, .. } = entry;
        Self {
            id: id(name, entry.total_run_count, slot),
            entry: name.clone(),
            task: task.clone(),
            args: args.clone(),
            kwargs: kwargs.clone(),
            options: options.clone(),
            run_at: slot,
        }
    }
}

/// A UUID of version 8: its bits are those of a hash. An entry whose last run was reset counts on, and so gets a new id for
/// a time at which it already ran.
fn id(name: &str, count: u64, slot: DateTime<Utc>) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    hash.update([0]);
    hash.update(count.to_le_bytes());
    hash.update(slot.timestamp_micros().to_le_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    Uuid::new_v8(bytes)
}
