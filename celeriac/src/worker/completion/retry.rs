//! The end of a run that is to be repeated, or that another signature replaces.

use super::failure::Reported;
use super::{Completion, correlation_id};
use crate::backend::{ExceptionInfo, TaskState};
use crate::broker::Disposition;
use crate::canvas::{self, Effect, Outbox, RetryError};
use crate::failpoints::fail_point;
use crate::message::{Signature, Value};
use crate::task::{Context, Failure, Retry, TaskOptions};
use crate::worker::hooks;

impl Completion<'_> {
    pub(in crate::worker) async fn retry(&self, context: &Context, retry: Retry, traceback: Option<String>) {
        let request = context.request();
        let mut outbox = Outbox::new();
        let sent = self.runtime.app.with_sender(Some(request), |sender| {
            let definition = self.definition;
            canvas::retry(request, &retry, &definition.options, definition.parameters, sender, &mut outbox)
        });
        let exception = retry.exception.as_ref();
        match sent {
            Ok(()) => {}
            Err(RetryError::MaxRetriesExceeded(exception)) => {
                let failure = Failure { exception, traceback, expected: false };
                return self.fail(context, failure, Reported::ByTask).await;
            }
            Err(RetryError::Canvas(error)) => {
                return self.reject(context, error.to_string(), false).await;
            }
        }
        let reason = exception.map_or_else(String::new, |exception| format!(": {}", exception.repr()));
        let text = format!("Retry {}{reason}", retry_time(&retry, &self.definition.options));
        let traceback = format!("Traceback (most recent call last):\ncelery.exceptions.Retry: {text}\n");
        let mut effects = outbox.effects;
        if !self.ignores_result(request) {
            let result = exception.map_or(Value::Null, ExceptionInfo::to_value);
            let mut meta = self.meta(request, TaskState::Retry, result);
            meta.traceback = Some(traceback.clone());
            let mut children = context.children();
            children.append(&mut outbox.children);
            meta.children = Some(children);
            effects.push(Effect::Store(Box::new(meta)));
        }
        fail_point!("retry.decided");
        self.finish(Disposition::Ack, effects, Some(request)).await;
        fail_point!("retry.completed");
        log::info!(task_id = request.id.as_str(), task_name = request.task.as_str(), correlation_id = correlation_id(request); "Task {}[{}] retry: {text}", request.display_name(), request.id);
        self.events().retried(&request.id, exception, &traceback);
        self.counters.retried.inc();
        hooks::each(&self.runtime.hooks.task_retry, |hook| hook(request, &retry));
    }

    pub(super) async fn replace(&self, context: &Context, signature: Signature) {
        let request = context.request();
        let mut outbox = Outbox::new();
        let replaced = self
            .runtime
            .app
            .with_sender(Some(request), |sender| canvas::replace(request, signature, sender, &mut outbox));
        match replaced {
            Ok(_) => {
                self.finish(Disposition::Ack, outbox.effects, Some(request)).await;
            }
            Err(error) => {
                let exception = ExceptionInfo::celery("ImproperlyConfigured", error.to_string());
                self.fail(context, Failure { exception, traceback: None, expected: false }, Reported::ByTask)
                    .await;
            }
        }
    }
}

/// When a retry is due, as `celery.exceptions.Retry` says it.
fn retry_time(retry: &Retry, options: &TaskOptions) -> String {
    match retry.eta {
        Some(eta) => format!("at {}", eta.format("%Y-%m-%d %H:%M:%S%.f%:z")),
        None => format!("in {}s", retry.countdown.unwrap_or(options.default_retry_delay)),
    }
}
