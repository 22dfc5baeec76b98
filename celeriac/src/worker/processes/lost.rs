//! What becomes of a task whose child process died.
//!
//! Source: celery 5.7 `Request.on_failure` in `celery/worker/request.py`.

use crate::backend::ExceptionInfo;
use crate::broker::Disposition;
use crate::canvas::Ending;
use crate::message::Value;
use crate::task::{Context, Retry};
use crate::worker::completion::Completion;
use crate::worker::completion::Reported;

impl Completion<'_> {
    /// Retries, requeues or fails it, as `task_retry_on_worker_lost` and `reject_on_worker_lost` say.
    pub(crate) async fn lost(&self, context: &Context, text: String) {
        let request = context.request();
        let (config, options) = (self.runtime.config(), &self.definition.options);
        let exception =
            ExceptionInfo::new("billiard.exceptions", "WorkerLostError", vec![Value::Str(text.clone())]);
        log::error!(task_id = request.id.as_str(), task_name = request.task.as_str(); "Task handler raised error: WorkerLostError: {text}");
        let mut is_exhausted = false;
        if config.task_retry_on_worker_lost {
            is_exhausted = options.max_retries.is_some_and(|most| request.retries() >= most);
            if !is_exhausted {
                let retry = Retry { exception: Some(exception), ..Retry::default() };
                return self.retry(context, retry, None).await;
            }
        }
        let requeues = options.reject_on_worker_lost.or(config.task_reject_on_worker_lost).unwrap_or(false);
        if requeues && !self.acknowledged && !is_exhausted {
            self.events().rejected(&request.id, true);
            self.counters.rejected.inc();
            self.finish(Disposition::Requeue, Vec::new(), None).await;
            return;
        }
        let traceback =
            format!("Traceback (most recent call last):\nbilliard.exceptions.WorkerLostError: {text}\n");
        self.report_failure(context, &Ending::failed(exception, Some(traceback)), Reported::ByTask).await;
    }
}
