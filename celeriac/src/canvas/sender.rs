//! What applying a signature needs to know, and what it gives.

use chrono::{DateTime, Utc};

use crate::backend::{ChordPart, GroupChange, ResultRef, TaskMeta};
use crate::config::Config;
use crate::message::{Codecs, Map, Message};
use crate::task::{Request, TaskOptions};

/// The surroundings in which a signature is applied; cheap to copy.
#[derive(Clone, Copy)]
pub struct Sender<'a> {
    /// Settings: routes, default queue, serializer, time zone, ...
    pub config: &'a Config,
    /// Keys and certificates, when messages are signed or encrypted.
    pub codecs: &'a Codecs,
    /// Options of the tasks that are known here, by name.
    pub tasks: &'a (dyn Fn(&str) -> Option<TaskOptions> + Sync),
    /// Origin that messages name: `gen<pid>@<host>`.
    pub origin: &'a str,
    /// Reply id of this client or worker.
    pub reply_to: &'a str,
    /// The present time.
    pub now: DateTime<Utc>,
    /// Source of task ids: [`random_id`] but for tests.
    pub new_id: &'a (dyn Fn() -> String + Sync),
    /// The task that is running, when one sends.
    pub parent: Option<&'a Request>,
}

/// A random (version 4) UUID as text.
pub fn random_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// What is to be sent and stored, in that order.
///
/// A worker commits all effects of a completed task at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outbox {
    /// The effects in their order.
    pub effects: Vec<Effect>,
    /// Results of what was sent, to be noted as `children` of the running task.
    pub children: Vec<ResultRef>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// Publish a message to its `delivery_info`.
    Publish(Box<Message>),
    /// Publish the event `task-sent` with those fields (`task_send_sent_event`).
    TaskSent(Map),
    /// Store the number of parts that a chord waits for.
    ChordSize {
        /// The chord's group id.
        group_id: String,
        /// Number of parts.
        size: usize,
    },
    /// End a chord that failed.
    ChordFailed {
        /// The chord's group id.
        group_id: String,
    },
    /// Make a chord wait for more parts.
    ChordGrow {
        /// The chord's group id.
        group_id: String,
        /// Number of further parts.
        by: usize,
    },
    /// Keep the shape of a chord's results, because some of them are groups.
    SaveGroup(ResultRef),
    /// Store the record of a task that will not run.
    Store(Box<TaskMeta>),
    /// Return a part of a chord.
    ChordPart(Box<ChordPart>),
    /// Revoke the tasks with these ids.
    Revoke(Vec<String>),
}

impl Effect {
    /// The change of what is kept of a group, if it is one.
    pub(crate) fn into_change(self) -> Option<GroupChange> {
        Some(match self {
            Effect::ChordSize { group_id, size } => GroupChange::Size { group_id, size },
            Effect::ChordGrow { group_id, by } => GroupChange::Grow { group_id, by },
            Effect::ChordFailed { group_id } => GroupChange::Failed { group_id },
            Effect::SaveGroup(group) => GroupChange::Save(group),
            _ => return None,
        })
    }
}

impl Outbox {
    /// An outbox with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The messages to be published, in their order.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Publish(message) => Some(&**message),
            _ => None,
        })
    }

    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}
