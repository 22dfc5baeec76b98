//! Outcomes of retries that another worker sent.
//!
//! Celery's worker sends a retry and then stores the state RETRY (celery/app/task.py `Task.retry`, celery/app/trace.py
//! `handle_retry`). Who is done with the retry in between is overwritten, and who waits for the result waits for ever.

use std::sync::Arc;
use std::time::Duration;

use super::runtime::Runtime;
use crate::backend::{TaskMeta, TaskState};
use crate::broker::BrokerError;
use crate::canvas::Effect;
use crate::task::Request;

/// When it is looked whether an outcome was overwritten, each after the one before.
const LOOKS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(8)];

impl Runtime {
    /// Stores the outcome of a retry again should RETRY come later than it.
    pub(super) fn outlast_retry(self: &Arc<Self>, request: &Request, effects: &[Effect]) {
        if request.retries() == 0 || request.headers.origin.as_deref() == Some(self.app.origin()) {
            return;
        }
        let outcome = effects.iter().find_map(|effect| match effect {
            Effect::Store(meta) if meta.task_id == request.id && meta.status.is_ready() => Some(meta),
            _ => None,
        });
        let Some(outcome) = outcome.cloned() else { return };
        let runtime = Arc::clone(self);
        self.background.spawn(async move {
            for pause in LOOKS {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = runtime.stopping.cancelled() => {}
                }
                match runtime.restore_outcome(&outcome).await {
                    Ok(false) if !runtime.stopping.is_cancelled() => {}
                    Ok(_) => return,
                    Err(error) => {
                        log::debug!(task_id = outcome.task_id.as_str(), error:% = error; "Cannot look at the result of {}: {error}", outcome.task_id);
                    }
                }
            }
        });
    }

    /// Whether the outcome was overwritten, and is there again.
    async fn restore_outcome(&self, outcome: &TaskMeta) -> Result<bool, BrokerError> {
        let Some(backend) = self.app.redis_backend() else { return Ok(true) };
        let stored = backend.fetch(&outcome.task_id).await?;
        if stored.is_none_or(|stored| stored.status != TaskState::Retry) {
            return Ok(false);
        }
        backend.store(outcome).await?;
        Ok(true)
    }
}
