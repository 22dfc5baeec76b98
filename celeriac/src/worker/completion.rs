//! The end of a run: what is stored, sent, counted and acknowledged, in one step where that is possible.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::commit::Commit;
use super::execute::Ended;
use super::failure::Reported;
use super::hooks::{self, Revocation};
use super::metrics::TaskCounters;
use super::refused::Standing;
use super::runtime::Runtime;
use crate::backend::{ExceptionInfo, TaskMeta, TaskState};
use crate::broker::{Batch, Disposition, Owner, Settlement};
use crate::canvas::{self, Effect, Ending, Outbox, RetryError};
use crate::events::TaskEvents;
use crate::failpoints::fail_point;
use crate::message::{EncodedBody, Parts, Signature, Value};
use crate::task::{Context, Failure, Request, Retry, TaskDefinition, TaskError, TaskOptions};

/// What is needed to complete one run.
pub(crate) struct Completion<'a> {
    pub(crate) runtime: &'a Arc<Runtime>,
    pub(crate) definition: &'a Arc<TaskDefinition>,
    pub(crate) counters: &'a TaskCounters,
    pub(crate) serial: u64,
    pub(crate) acknowledged: bool,
    pub(crate) started: Instant,
    /// Who settles it otherwise when the server refuses what the run comes to.
    pub(crate) standing: Standing<'a>,
    /// The body of the message, if it came with one.
    pub(crate) body: Option<&'a Arc<EncodedBody>>,
}

/// What became of a success.
enum Alone {
    /// It is committed.
    Committed(Value),
    /// Something follows it.
    Followed(Value),
    /// It cannot be stored.
    Unstorable(ExceptionInfo),
}

impl Completion<'_> {
    /// What is told of this run.
    pub(super) fn events(&self) -> TaskEvents<'_> {
        self.runtime.events.task_events(self.definition.options.send_events)
    }

    /// Whether STARTED is stored.
    pub(crate) fn tracks_started(&self, request: &Request) -> bool {
        let tracks = self.definition.options.track_started;
        tracks.unwrap_or(self.runtime.config().task_track_started) && !self.ignores_result(request)
    }

    /// Stores STARTED, before anything else is stored of the run.
    pub(crate) async fn store_started(&self, request: &Request) {
        let Some(backend) = self.runtime.app.result_backend() else { return };
        let state = &self.runtime.state;
        let result = [("pid", Value::from(state.pid)), ("hostname", Value::from(state.hostname.as_str()))];
        let result = Value::Map(result.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        let meta = self.meta(request, TaskState::Started, result);
        let batch = backend.storing(&meta, !request.redelivered());
        if self.runtime.app.commits_together() {
            return self.runtime.commit_alone(batch);
        }
        // Nothing keeps the order of what goes to another server.
        if let Err(error) = backend.carry_out(batch).await {
            log::warn!(task_id = request.id.as_str(), error:% = error; "STARTED could not be stored: {error}");
        }
    }

    /// Brings the run to its end.
    pub(crate) async fn complete(&self, context: &Context, ended: Ended) {
        let request = context.request();
        match ended {
            Ended::Returned(Ok(value)) => self.succeed(context, value).await,
            Ended::Returned(Err(error)) => self.raised(context, error).await,
            Ended::TimedOut(limit) => {
                log::error!(task_id = request.id.as_str(), task_name = request.task.as_str(); "Hard time limit ({limit}s) exceeded for {}[{}]", request.display_name(), request.id);
                let limit = if limit.fract() == 0.0 { Value::Int(limit as i64) } else { Value::Float(limit) };
                let exception = ExceptionInfo::new("billiard.exceptions", "TimeLimitExceeded", vec![limit]);
                self.report_failure(context, &Ending::failed(exception, None), Reported::OnTimeout).await;
            }
            Ended::Lost(text) => self.lost(context, text).await,
            Ended::Terminated => {
                let signum = self.runtime.state.requests().get(&self.serial).and_then(|known| known.signum);
                self.events().revoked(&request.id, true, signum, false);
                self.counters.revoked.inc();
                let revocation = Revocation { terminated: true, signum, expired: false };
                hooks::each(&self.runtime.hooks.task_revoked, |hook| hook(&request.headers, revocation));
                let meta = |ending: &Ending| {
                    let stores = !self.ignores_result(request);
                    stores.then(|| self.meta(request, ending.state.clone(), ending.exception.to_value()))
                };
                // What ended the run is not to end its errbacks.
                let limits = self.runtime.limits(request, Some(self.definition), CancellationToken::new());
                let ending = Ending::revoked("terminated");
                let Some(effects) = self.follow_ending(context, &ending, meta(&ending), limits).await else {
                    return;
                };
                self.finish(Disposition::Ack, effects, Some(request)).await;
            }
            Ended::Cancelled => self.give_up(context).await,
        }
    }

    pub(crate) async fn succeed(&self, context: &Context, value: Value) {
        let request = context.request();
        let value = match self.succeed_alone(context, value) {
            Alone::Committed(value) => return self.tell_success(request, &value),
            Alone::Followed(value) => value,
            Alone::Unstorable(exception) => {
                let failure = Failure { exception, traceback: None, expected: false };
                return Box::pin(self.fail(context, failure, Reported::ByTask)).await;
            }
        };
        let mut outbox = Outbox::new();
        let sent = self
            .runtime
            .app
            .with_sender(Some(request), |sender| canvas::on_success(request, &value, sender, &mut outbox));
        if let Err(error) = sent {
            let exception = ExceptionInfo::builtin("ValueError", error.to_string());
            let failure = Failure { exception, traceback: None, expected: false };
            return Box::pin(self.fail(context, failure, Reported::ByTask)).await;
        }
        let mut effects = outbox.effects;
        if !self.ignores_result(request) {
            let mut meta = self.meta(request, TaskState::Success, value.clone());
            let mut children = context.children();
            children.append(&mut outbox.children);
            meta.children = Some(children);
            effects.push(Effect::Store(Box::new(meta)));
        }
        if let Some(part) = canvas::chord_part(request, TaskState::Success, value.clone()) {
            effects.push(Effect::ChordPart(Box::new(part)));
        }
        if Box::pin(self.finish(Disposition::Ack, effects, Some(request))).await {
            self.tell_success(request, &value);
        }
    }

    /// Commits the success of a task that nothing follows, without waiting.
    fn succeed_alone(&self, context: &Context, mut value: Value) -> Alone {
        let request = context.request();
        let is_first = !request.redelivered() && request.retries() == 0;
        if canvas::is_followed(request) || !self.runtime.app.commits_together() || !is_first {
            return Alone::Followed(value);
        }
        let mut batch = Batch::Empty;
        if let Some(backend) = self.runtime.app.result_backend()
            && !self.ignores_result(request)
        {
            let mut meta = self.meta(request, TaskState::Success, value);
            meta.children = Some(context.children());
            batch = match backend.try_storing(&meta, true) {
                Ok(batch) => batch,
                Err(exception) => return Alone::Unstorable(exception),
            };
            value = meta.result;
        }
        let serial = (!self.acknowledged).then_some(self.serial);
        if serial.is_some() || !batch.is_empty() {
            let owner = Some(self.message_of(context));
            self.runtime.settle(Settlement { serial, owner, ..Settlement::commit(Disposition::Ack, batch) });
        }
        Alone::Committed(value)
    }

    /// The message of a run, from which its context can be made again. Its parts were allocated where they are dropped, by
    /// the consumer, which is cheaper than handing the context over for that.
    fn message_of(&self, context: &Context) -> Owner {
        let request = context.request();
        match self.body {
            Some(body) => Arc::new(Parts {
                headers: Arc::clone(&request.headers),
                properties: Arc::clone(&request.properties),
                body: Arc::clone(body),
            }),
            None => context.opaque(),
        }
    }

    fn tell_success(&self, request: &Request, value: &Value) {
        let runtime = self.started.elapsed().as_secs_f64();
        log::info!(task_id = request.id.as_str(), task_name = request.task.as_str(), correlation_id = correlation_id(request), duration_ms = runtime * 1e3; "Task {}[{}] succeeded in {runtime:.6}s", request.display_name(), request.id);
        self.events().succeeded(&request.id, value, runtime);
        self.counters.succeeded.inc();
        self.counters.runtime.observe(runtime);
        hooks::each(&self.runtime.hooks.task_success, |hook| hook(request, value));
    }

    async fn raised(&self, context: &Context, error: TaskError) {
        match error {
            TaskError::Failure(failure) => {
                match canvas::autoretry(context.request(), &failure.exception, &self.definition.options) {
                    Some(retry) => self.retry(context, retry, failure.traceback).await,
                    None => self.fail(context, *failure, Reported::ByTask).await,
                }
            }
            TaskError::SoftTimeLimitExceeded => {
                let exception =
                    ExceptionInfo::new("billiard.exceptions", "SoftTimeLimitExceeded", Vec::new());
                let failure = Failure { exception, traceback: None, expected: false };
                match canvas::autoretry(context.request(), &failure.exception, &self.definition.options) {
                    Some(retry) => self.retry(context, retry, None).await,
                    None => self.fail(context, failure, Reported::ByTask).await,
                }
            }
            TaskError::Retry(retry) => self.retry(context, *retry, None).await,
            TaskError::Ignore => {
                let request = context.request();
                log::info!(task_id = request.id.as_str(), task_name = request.task.as_str(); "Task {}[{}] ignored", request.display_name(), request.id);
                let effects = self.follow_ignored(request).await;
                self.finish(Disposition::Ack, effects, Some(request)).await;
            }
            TaskError::Reject { reason, requeue } => self.reject(context, reason, requeue).await,
            TaskError::Replace(signature) => self.replace(context, *signature).await,
        }
    }

    pub(super) async fn retry(&self, context: &Context, retry: Retry, traceback: Option<String>) {
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

    async fn replace(&self, context: &Context, signature: Signature) {
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

    /// Commits what the run comes to; whether it was committed, or given to the consumer, as it was asked for.
    pub(super) async fn finish(
        &self,
        disposition: Disposition,
        effects: Vec<Effect>,
        request: Option<&Request>,
    ) -> bool {
        let serial = (!self.acknowledged).then_some(self.serial);
        fail_point!("complete.before");
        let standing = self.standing;
        self.runtime.commit(Commit { serial, disposition, effects, request, standing }).await
    }

    pub(super) fn meta(&self, request: &Request, state: TaskState, result: Value) -> TaskMeta {
        meta(self.runtime, request, state, result)
    }

    pub(super) fn ignores_result(&self, request: &Request) -> bool {
        ignores_result(self.runtime, self.definition, request)
    }
}

/// What is stored of a request.
pub(super) fn meta(runtime: &Runtime, request: &Request, state: TaskState, result: Value) -> TaskMeta {
    let mut meta = TaskMeta::new(request.id.clone(), state, result);
    meta.date_done = meta.date_done.map(|_| runtime.app.clock().now());
    meta.group_id.clone_from(&request.headers.group);
    meta.parent_id.clone_from(&request.headers.parent_id);
    if runtime.config().result_extended {
        meta.extended = request.extended();
    }
    meta
}

pub(super) fn ignores_result(runtime: &Runtime, definition: &TaskDefinition, request: &Request) -> bool {
    request
        .headers
        .ignore_result
        .or(definition.options.ignore_result)
        .unwrap_or(runtime.config().task_ignore_result)
}

pub(super) fn correlation_id(request: &Request) -> &str {
    request.properties.correlation_id.as_deref().unwrap_or(&request.id)
}

/// When a retry is due, as `celery.exceptions.Retry` says it.
fn retry_time(retry: &Retry, options: &TaskOptions) -> String {
    match retry.eta {
        Some(eta) => format!("at {}", eta.format("%Y-%m-%d %H:%M:%S%.f%:z")),
        None => format!("in {}s", retry.countdown.unwrap_or(options.default_retry_delay)),
    }
}
