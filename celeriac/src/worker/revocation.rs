//! The end of tasks that were revoked before they started.

use std::sync::Arc;

use super::completion::{ignores_result, meta};
use super::runtime::Runtime;
use crate::backend::{ExceptionInfo, TaskMeta, TaskState};
use crate::broker::redis::Disposition;
use crate::canvas::{self, Effect};
use crate::heavy::aside;
use crate::message::Message;
use crate::task::{Request, TaskDefinition};

/// Stores the revocation of a task that has not started.
pub(crate) async fn revoke(
    runtime: &Arc<Runtime>,
    definition: &Arc<TaskDefinition>,
    message: Message,
    serial: u64,
    acknowledged: bool,
    reason: &str,
) {
    let (headers, is_large) = (message.headers.clone(), message.is_large());
    let mut effects = Vec::new();
    let decode = || message.into_task(&runtime.accept);
    if let Ok((message, body)) = if is_large { aside(decode) } else { decode() } {
        let request = Request::new(message.headers, message.properties, body, &runtime.state.hostname);
        if !ignores_result(runtime, definition, &request) {
            effects.push(Effect::Store(Box::new(meta(
                runtime,
                &request,
                TaskState::Revoked,
                revoked_exception(reason).to_value(),
            ))));
        }
        if let Some(part) =
            canvas::chord_part(&request, TaskState::Revoked, revoked_exception(reason).to_value())
        {
            effects.push(Effect::ChordPart(Box::new(part)));
        }
        runtime
            .finish_for((!acknowledged).then_some(serial), Disposition::Ack, effects, Some(&request))
            .await;
    } else {
        if let Some(id) = headers.id {
            let meta = TaskMeta::new(id, TaskState::Revoked, revoked_exception(reason).to_value());
            effects.push(Effect::Store(Box::new(meta)));
        }
        runtime.finish((!acknowledged).then_some(serial), Disposition::Ack, effects).await;
    }
}

/// What a revoked task is stored with.
pub(super) fn revoked_exception(reason: &str) -> ExceptionInfo {
    ExceptionInfo::celery("TaskRevokedError", reason)
}
