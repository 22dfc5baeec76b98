//! `worker_deduplicate_successful_tasks`: a redelivered task that has succeeded already is not run again.
//!
//! Source: celery 5.7 `trace_task` in `celery/app/trace.py`.

use super::Completion;
use crate::backend::{TaskMeta, TaskState};
use crate::broker::Disposition;
use crate::canvas::{self, Effect, Outbox};
use crate::task::Request;
use crate::worker::runtime::Runtime;

impl Runtime {
    /// Whether a task that comes again is not to be run if it has succeeded before: a late-acked one.
    pub(crate) fn deduplicates(&self, request: &Request, acknowledged: bool) -> bool {
        !acknowledged && self.config().worker_deduplicate_successful_tasks && request.redelivered()
    }

    /// The success that is stored of a task.
    pub(crate) async fn earlier_success(&self, request: &Request) -> Option<TaskMeta> {
        match self.app.result_backend()?.fetch(&request.id).await {
            Ok(meta) => meta.filter(|meta| meta.status == TaskState::Success),
            Err(error) => {
                log::warn!(task_id = request.id.as_str(), error:% = error; "Whether {} succeeded before is not known, it is run: {error}", request.id);
                None
            }
        }
    }
}

impl Completion<'_> {
    /// Ends a run that is not needed: what was to follow is sent unless the stored record has children, and the task's part
    /// of a chord is returned, which is counted once.
    pub(crate) async fn skip(&self, request: &Request, earlier: TaskMeta) {
        let (id, name) = (request.id.as_str(), request.display_name());
        log::info!(task_id = id, task_name = request.task.as_str(); "Task {name}[{id}] ignored: Task already completed successfully.");
        let mut outbox = Outbox::new();
        if earlier.children.as_ref().is_none_or(Vec::is_empty) {
            let sent = self.runtime.app.with_sender(Some(request), |sender| {
                canvas::on_success(request, &earlier.result, sender, &mut outbox)
            });
            if let Err(error) = sent {
                log::error!(task_id = id, error:% = error; "What follows the deduplicated task {id} cannot be sent, it is requeued: {error}");
                self.events().rejected(id, true);
                self.counters.rejected.inc();
                self.finish(Disposition::Requeue, Vec::new(), None).await;
                return;
            }
        }
        let mut effects = outbox.effects;
        if let Some(part) = canvas::chord_part(request, TaskState::Success, earlier.result.clone()) {
            effects.push(Effect::ChordPart(Box::new(part)));
        }
        if self.finish(Disposition::Ack, effects, Some(request)).await {
            self.events().succeeded(id, &earlier.result, self.started.elapsed().as_secs_f64());
            self.counters.succeeded.inc();
        }
    }
}
