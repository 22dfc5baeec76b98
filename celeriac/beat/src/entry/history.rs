//! What beat remembers of an entry beside its last run: for its policies, and for operators.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// How many runs are remembered.
const REMEMBERED: usize = 5;

/// What beat remembers of an entry beside its last run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Runs that were missed while no beat ran, and were not sent.
    #[serde(skip_serializing_if = "is_zero")]
    pub missed: u64,
    /// Runs that were not sent because the last one had not ended.
    #[serde(skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Runs that were sent more than a second late.
    #[serde(skip_serializing_if = "is_zero")]
    pub late: u64,
    /// Runs that could not be sent.
    #[serde(skip_serializing_if = "is_zero")]
    pub refused: u64,
    /// Failed runs in a row, as far as their outcome is known.
    #[serde(skip_serializing_if = "is_zero")]
    pub failures: u64,
    /// Why it cannot be sent, or why it was paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The run that waits for the last one to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffered: Option<DateTime<Utc>>,
    /// The latest runs, the newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Past>,
    /// The part of the entry's definition that RedBeat has no place for.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub policy: Value,
}

/// A run that was sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// The task id.
    pub id: Uuid,
    /// The time for which it was scheduled, in milliseconds since 1970.
    pub slot: i64,
    /// When it was sent, in milliseconds since 1970.
    pub sent: i64,
    /// How it ended, where an entry's policy asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It waits, runs or is retried.
    Running,
    /// It succeeded.
    Success,
    /// It failed, or was revoked.
    Failure,
    /// Nothing is known of it.
    Unknown,
}

impl History {
    /// Notes a run that is sent now.
    pub(crate) fn note(&mut self, id: Uuid, slot: DateTime<Utc>, now: DateTime<Utc>) {
        let (slot, sent) = (slot.timestamp_millis(), now.timestamp_millis());
        self.late += u64::from(sent - slot > 1000);
        self.runs.insert(0, Past { id, slot, sent, outcome: None });
        self.runs.truncate(REMEMBERED);
    }

    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
