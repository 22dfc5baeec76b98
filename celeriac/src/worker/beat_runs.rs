//! Runs of beat that were published twice.
//!
//! The id of a run is made of its entry and its time (a UUID of version 8). Where schedule and broker do not commit together,
//! a beat that dies may publish a run that another one publishes again: two messages with one id, of which one is run.

use uuid::Uuid;

use super::runtime::Runtime;
use crate::message::Value;
use crate::task::Request;

/// The header of beat's messages.
///
/// Source: `apply_async` in `celery/beat.py`, celery 5.7; sample `beat/sent_message.json`.
const HEADER: &str = "celery_beat_task";

impl Runtime {
    /// Returns whether another message brought the same run of beat before. A message that comes again is no other one.
    pub(super) async fn is_second_message(&self, request: &Request) -> bool {
        let (id, tag) = (request.id.as_str(), &request.properties.delivery_tag);
        match self.app.broker().claim_run(id, tag).await {
            Ok(true) => false,
            Ok(false) => {
                let name = request.display_name();
                log::warn!(task_id = id, task_name = request.task.as_str(); "Task {name}[{id}] ignored: beat has published this run twice");
                true
            }
            Err(error) => {
                log::warn!(task_id = id, error:% = error; "Whether {id} was published twice is not known, it is run: {error}");
                false
            }
        }
    }
}

/// Returns whether a message is a run of beat with an id of its own time, delivered for the first time or again, but no retry.
pub(super) fn is_one(request: &Request) -> bool {
    let headers = &request.headers;
    headers.extra.get(HEADER) == Some(&Value::Bool(true))
        && headers.retries == 0
        && request.id.parse::<Uuid>().is_ok_and(|id| id.get_version_num() == 8)
}
