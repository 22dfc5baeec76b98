//! Runs that end without an outcome: ignored by the task itself, or ended by a cold shutdown.

use tokio_util::sync::CancellationToken;

use super::Completion;
use crate::backend::{ExceptionInfo, TaskMeta, TaskState};
use crate::broker::Disposition;
use crate::canvas::{self, Effect, Ending};
use crate::message::{Parts, Value};
use crate::task::{Context, Request};
use crate::worker::execute::Limits;

/// Most seconds that errbacks of lost tasks may take while the worker is shutting down.
const LAST_ERRBACKS: f64 = 5.0;

impl Completion<'_> {
    /// What follows a task that ignores its own result: it has not failed, so that its errbacks are not called, but what waits
    /// for it will never run. Its chord gets what the task has stored itself, else a failure.
    pub(in crate::worker) async fn follow_ignored(&self, request: &Request) -> Vec<Effect> {
        if !canvas::is_followed(request) {
            return Vec::new();
        }
        let mut effects = Vec::new();
        let mut silent = request.clone();
        silent.body.embed.errbacks.clear();
        if let Some(own) = self.stored_outcome(request).await {
            let part = canvas::chord_part(request, own.status, own.result);
            effects.extend(part.map(|part| Effect::ChordPart(Box::new(part))));
            silent.body.embed.chord = None;
        }
        let exception = ExceptionInfo::new("celery.exceptions", "Ignore", Vec::new());
        let limits = self.runtime.limits(request, Some(self.definition), CancellationToken::new());
        let ending = Ending::failed(exception, None);
        let (_, follow) = self.runtime.follow_ending(&silent, &ending, None, limits).await;
        effects.extend(follow);
        effects
    }

    /// What a task that is part of a chord has stored of itself, if that is an outcome.
    async fn stored_outcome(&self, request: &Request) -> Option<TaskMeta> {
        request.body.embed.chord.as_ref()?;
        match self.runtime.app.result_backend()?.fetch(&request.id).await {
            Ok(stored) => stored.filter(|meta| meta.status.is_ready()),
            Err(error) => {
                log::warn!(task_id = request.id.as_str(), error:% = error; "What {} has stored itself is not known to its chord: {error}", request.id);
                None
            }
        }
    }

    /// Ends a run that a cold shutdown ended: a message that is not acknowledged goes back.
    ///
    /// Source: celery 5.7 `cancel_active_requests` in `celery/worker/consumer/consumer.py`.
    pub(in crate::worker) async fn give_up(&self, context: &Context) {
        let request = context.request();
        self.events().cancelled(&request.id);
        if !self.acknowledged {
            self.finish(Disposition::Restore, Vec::new(), Some(request)).await;
            return;
        }
        if self.runtime.life.gives_back_all() && self.send_again(request).await {
            return;
        }
        log::warn!(task_id = request.id.as_str(), task_name = request.task.as_str(); "Task {}[{}] was cancelled by the shutdown and is lost: it was acknowledged when it started\nhint: use acks_late for tasks that must not be lost", request.display_name(), request.id);
        self.lose(request).await;
    }

    /// Tells all that wait for a task that nobody will run it again.
    async fn lose(&self, request: &Request) {
        let args = vec!["cancelled by Celery".into(), Value::Null, Value::Null];
        let ending = Ending::failed(ExceptionInfo::new("celery.exceptions", "Retry", args), None);
        let stores = !self.ignores_result(request);
        let meta = stores.then(|| self.meta(request, TaskState::Retry, ending.exception.to_value()));
        // What ends all runs is not to end their errbacks too.
        let terminate = CancellationToken::new();
        let limits = self.runtime.limits(request, Some(self.definition), terminate);
        let hard = Some(limits.hard.unwrap_or(LAST_ERRBACKS).min(LAST_ERRBACKS));
        let limits = Limits { hard, abort: CancellationToken::new(), ..limits };
        let (_, effects) = self.runtime.follow_ending(request, &ending, meta, limits).await;
        if !effects.is_empty() {
            self.finish(Disposition::Ack, effects, Some(request)).await;
        }
    }

    /// Sends the message of a task that was acknowledged when it started once more; `false` when that cannot be done.
    async fn send_again(&self, request: &Request) -> bool {
        let known = self.runtime.state.requests().get(&self.serial).cloned();
        let Some(known) = known else { return false };
        let mut message =
            Parts { headers: known.headers, properties: known.properties, body: known.body }.message();
        message.headers.redelivered = true;
        message.properties.delivery_info.redelivered = true;
        match self.runtime.app.broker().publications(&[message]).await {
            Ok(batch) => {
                self.runtime.commit_alone(batch);
                true
            }
            Err(error) => {
                log::error!(task_id = request.id.as_str(), task_name = request.task.as_str(), error:% = error; "Task {}[{}] cannot be sent again: {error}", request.display_name(), request.id);
                false
            }
        }
    }
}
