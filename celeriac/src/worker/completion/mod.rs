//! The end of a run: what is stored, sent, counted and acknowledged, in one step where that is possible.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

mod deduplicate;
mod failure;
mod give_up;
mod retry;
mod success;

use crate::backend::{ExceptionInfo, TaskMeta, TaskState};
use crate::broker::Disposition;
use crate::canvas::{self, Effect, Ending};
use crate::events::TaskEvents;
use crate::failpoints::fail_point;
use crate::message::{EncodedBody, Map, Value};
use crate::task::{Context, Failure, Request, TaskDefinition, TaskError};
use crate::worker::commit::Commit;
use crate::worker::execute::Ended;
use crate::worker::hooks::{self, Revocation};
use crate::worker::metrics::TaskCounters;
use crate::worker::refused::Standing;
use crate::worker::runtime::Runtime;
pub(in crate::worker) use failure::Reported;

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

impl Completion<'_> {
    /// What is told of this run.
    pub(in crate::worker) fn events(&self) -> TaskEvents<'_> {
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

    /// Commits what the run comes to; whether it was committed, or given to the consumer, as it was asked for.
    pub(in crate::worker) async fn finish(
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

    pub(in crate::worker) fn meta(&self, request: &Request, state: TaskState, result: Value) -> TaskMeta {
        meta(self.runtime, request, state, result)
    }

    pub(in crate::worker) fn ignores_result(&self, request: &Request) -> bool {
        ignores_result(self.runtime, self.definition, request)
    }
}

/// What is stored of a request.
pub(in crate::worker) fn meta(
    runtime: &Runtime,
    request: &Request,
    state: TaskState,
    result: Value,
) -> TaskMeta {
    let extended = if runtime.config().result_extended { request.extended() } else { Map::new() };
    TaskMeta {
        group_id: request.headers.group.clone(),
        parent_id: request.headers.parent_id.clone(),
        extended,
        ..TaskMeta::at(runtime.app.clock().now(), request.id.clone(), state, result)
    }
}

pub(in crate::worker) fn ignores_result(
    runtime: &Runtime,
    definition: &TaskDefinition,
    request: &Request,
) -> bool {
    request
        .headers
        .ignore_result
        .or(definition.options.ignore_result)
        .unwrap_or(runtime.config().task_ignore_result)
}

pub(in crate::worker) fn correlation_id(request: &Request) -> &str {
    request.properties.correlation_id.as_deref().unwrap_or(&request.id)
}
