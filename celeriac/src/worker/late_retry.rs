//! Outcomes of retries that another worker sent.
//!
//! Celery's worker sends a retry and then stores the state RETRY (celery/app/task.py `Task.retry`, celery/app/trace.py
//! `handle_retry`). Who is done with the retry in between is overwritten, and who waits for the result waits for ever.

use std::sync::Arc;
use std::time::Duration;

use super::runtime::Runtime;
use crate::backend::{BackendError, TaskMeta, TaskState};
use crate::canvas::Effect;
use crate::task::Request;

/// When it is looked whether an outcome was overwritten, each after the one before.
const LOOKS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(8)];

impl Runtime {
    /// Before the outcome of a retry is stored: it will be stored again should RETRY come later than it.
    pub(super) async fn outlast_retry(self: &Arc<Self>, request: &Request, effects: &[Effect]) {
        if request.retries() == 0 {
            return;
        }
        let outcome = effects.iter().find_map(|effect| match effect {
            Effect::Store(meta) if meta.task_id == request.id && meta.status.is_ready() => Some(meta),
            _ => None,
        });
        let Some(outcome) = outcome.cloned() else { return };
        // Who sent the retry may have stored RETRY by now; a worker of ours does so first.
        if self.is_stored_as_retry(&outcome.task_id).await.unwrap_or_default() {
            return;
        }
        let runtime = Arc::clone(self);
        self.life.background.spawn(async move {
            for pause in LOOKS {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = runtime.life.stopping.cancelled() => {}
                }
                match runtime.restore_outcome(&outcome).await {
                    Ok(false) if !runtime.life.stopping.is_cancelled() => {}
                    Ok(_) => return,
                    Err(error) => {
                        log::debug!(task_id = outcome.task_id.as_str(), error:% = error; "Cannot look at the result of {}: {error}", outcome.task_id);
                    }
                }
            }
        });
    }

    /// Whether the outcome was overwritten, and is there again.
    async fn restore_outcome(&self, outcome: &TaskMeta) -> Result<bool, BackendError> {
        let Some(backend) = self.app.result_backend() else { return Ok(true) };
        let is_overwritten = self.is_stored_as_retry(&outcome.task_id).await?;
        if is_overwritten {
            backend.store(outcome).await?;
        }
        Ok(is_overwritten)
    }

    async fn is_stored_as_retry(&self, task_id: &str) -> Result<bool, BackendError> {
        let Some(backend) = self.app.result_backend() else { return Ok(false) };
        Ok(backend.fetch(task_id).await?.is_some_and(|stored| stored.status == TaskState::Retry))
    }
}
