//! Messages of which no task is run: expired or revoked, unreadable, or of a task that is unknown here.

use std::sync::Arc;

use super::ending::Unstarted;
use super::hooks::{self, Revocation};
use super::job::Job;
use super::metrics::Refusal;
use super::runtime::Runtime;
use crate::Timezone;
use crate::backend::{ExceptionInfo, TaskMeta, TaskState};
use crate::broker::{DeadReason, Disposition};
use crate::canvas::Ending;
use crate::failpoints::fail_point;
use crate::message::{Parts, ProtocolError, Value};
use crate::node::lock;
use crate::task::Request;

impl Runtime {
    /// Drops a job that expired or was revoked before it started; `true` when it did.
    pub(crate) fn drop_if_unwanted(self: &Arc<Self>, job: &Job) -> bool {
        let headers = &job.headers;
        let expired = headers
            .expires(Timezone::UTC)
            .ok()
            .flatten()
            .is_some_and(|expires| self.app.clock().now() > expires);
        let revoked = {
            let revoked = lock(&self.state.revoked);
            !revoked.is_empty() && revoked.matches(headers)
        };
        if !expired && !revoked {
            return false;
        }
        let reason = if expired { "expired" } else { "revoked" };
        let (runtime, serial, acknowledged) = (Arc::clone(self), job.serial, job.acknowledged);
        let (id, name) =
            (headers.id.clone().unwrap_or_default(), headers.task.as_deref().unwrap_or_default());
        log::info!(task_id = id.as_str(), task_name = name; "Discarding {reason} task: {name}[{id}]");
        self.events.task_events(job.definition.options.send_events).revoked(&id, false, None, expired);
        let (definition, parts) = (Arc::clone(&job.definition), job.parts());
        let unstarted = Unstarted { parts, serial, acknowledged, disposition: Disposition::Ack };
        self.life.background.spawn(async move {
            fail_point!("revoke.decided");
            runtime.end_unwanted(unstarted, &definition, reason).await;
            fail_point!("revoke.completed");
            runtime.forget(serial);
            if revoked && let Err(error) = runtime.revocations.message_gone(&id).await {
                log::debug!(task_id = id.as_str(), error:% = error; "The revocation of {id} is kept for long: {error}");
            }
        });
        job.counters.revoked.inc();
        let revocation = Revocation { terminated: false, signum: None, expired };
        hooks::each(&self.hooks.task_revoked, |hook| hook(headers, revocation));
        true
    }

    /// Rejects a message of which nothing can be made; all that wait for its task are told, as far as they are known.
    pub(crate) async fn refuse(
        self: &Arc<Self>,
        serial: u64,
        acknowledged: bool,
        parts: Parts,
        error: &ProtocolError,
    ) {
        let headers = Arc::clone(&parts.headers);
        let id = headers.id.as_deref().or(error.task_id()).map(str::to_owned);
        let name = headers.task.as_deref().or(error.task_name()).unwrap_or("unknown");
        log::error!(task_id = id.as_deref().unwrap_or(""), task_name = name, error:% = error; "Message rejected: {error}");
        self.counters.refuse(Refusal::of(error, &headers));
        hooks::each(&self.hooks.task_rejected, |hook| hook(&headers, error));
        let disposition = Disposition::Dead(DeadReason::Malformed, Vec::new());
        let unstarted = Unstarted { parts, serial, acknowledged, disposition };
        let ending = Ending::refused(error);
        let meta = |_: &Request| id.map(|id| self.failure(&id, &ending.exception));
        self.end_unstarted(unstarted, &ending, meta).await;
        self.forget(serial);
    }

    /// Keeps a message among the dead letters that was acknowledged before anybody saw that it cannot be read.
    pub(crate) fn bury(&self, job: &Job) {
        let to = &job.properties.delivery_info;
        let queue = if to.exchange.is_empty() { &to.routing_key } else { &*job.queue };
        let (reason, message) = (DeadReason::Malformed, job.whole_message());
        self.commit_alone(self.app.broker().letter(reason, &message, queue, &self.state.hostname));
    }

    /// Of a message that is no request: `result_extended` has nothing to add (sample `results_extended/unregistered`).
    fn failure(&self, id: &str, exception: &ExceptionInfo) -> TaskMeta {
        let mut meta = TaskMeta::new(id, TaskState::Failure, exception.to_value());
        if self.config().result_extended {
            let unknown = ["name", "args", "kwargs", "worker", "retries", "queue"];
            meta.extended = unknown.map(|name| (name.to_owned(), Value::Null)).into();
        }
        meta
    }

    pub(super) fn unknown_task(self: &Arc<Self>, serial: u64, parts: Parts) {
        let headers = &parts.headers;
        let name = headers.task.as_deref().unwrap_or_default();
        let id = headers.id.as_deref().unwrap_or_default();
        log::error!(task_id = id, task_name = name; "Received unregistered task of type {name:?}: the message is rejected\nhint: add the task with Worker::task, or send it to a queue of a worker that has it");
        self.counters.refuse(Refusal::Unregistered);
        hooks::each(&self.hooks.task_unknown, |hook| hook(headers));
        let ending = Ending::unregistered(name);
        self.events.task_events(true).failed(id, &ending.exception, None);
        let runtime = Arc::clone(self);
        let disposition = Disposition::Dead(DeadReason::Unregistered, Vec::new());
        let unstarted = Unstarted { parts, serial, acknowledged: false, disposition };
        self.life.background.spawn(async move {
            let meta = |request: &Request| {
                (!request.id.is_empty()).then(|| runtime.failure(&request.id, &ending.exception))
            };
            runtime.end_unstarted(unstarted, &ending, meta).await;
        });
    }
}
