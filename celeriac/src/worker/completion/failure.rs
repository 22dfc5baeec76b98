//! The end of a run that failed: what is stored of it, who is told, what becomes of its message.

use super::{Completion, correlation_id};
use crate::backend::{TaskMeta, TaskState};
use crate::broker::{DeadReason, Disposition, Start};
use crate::canvas::{Effect, Ending};
use crate::task::{Context, Failure, Request};
use crate::worker::errbacks::Called;
use crate::worker::execute::Limits;
use crate::worker::hooks;

/// Who reports a failure: the task itself, or the worker about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reported<'a> {
    /// The message of a late-acked task goes by `acks_on_failure`.
    ByTask,
    /// The message of a late-acked task goes by `acks_on_timeout` instead.
    OnTimeout,
    /// The message of a late-acked task is given up after those starts.
    Poison(&'a [Start]),
}

impl Completion<'_> {
    pub(in crate::worker) async fn fail(&self, context: &Context, failure: Failure, reported: Reported<'_>) {
        let Failure { exception, traceback, expected } = failure;
        let traceback = exception.traceback(traceback.as_deref());
        let request = context.request();
        let error = exception.repr();
        if expected {
            log::info!(task_id = request.id.as_str(), task_name = request.task.as_str(), correlation_id = correlation_id(request), error = error.as_str(); "Task {}[{}] raised expected: {error}", request.display_name(), request.id);
        } else {
            log::error!(task_id = request.id.as_str(), task_name = request.task.as_str(), correlation_id = correlation_id(request), error = error.as_str(); "Task {}[{}] raised unexpected: {error}", request.display_name(), request.id);
        }
        self.report_failure(context, &Ending::failed(exception, Some(traceback)), reported).await;
    }

    pub(in crate::worker) async fn report_failure(
        &self,
        context: &Context,
        ending: &Ending,
        reported: Reported<'_>,
    ) {
        let request = context.request();
        let Ending { exception, traceback, .. } = ending;
        let meta = self.stores_errors(request).then(|| {
            let mut meta = self.meta(request, TaskState::Failure, exception.to_value());
            meta.traceback.clone_from(traceback);
            meta.children = Some(context.children());
            meta
        });
        let Some(effects) = self.follow_ending(context, ending, meta, self.limits(request)).await else {
            return;
        };
        let disposition = self.disposition_after_failure(request, reported);
        self.finish(disposition, effects, Some(request)).await;
        self.events().failed(&request.id, exception, traceback.as_deref());
        self.counters.fail(&exception.exc_type);
        hooks::each(&self.runtime.hooks.task_failure, |hook| hook(request, exception));
    }

    /// Does what follows from the end of a task; returns what is to be committed with the acknowledgement, or nothing
    /// when a cold shutdown ended its errbacks and the message has gone back.
    pub(in crate::worker) async fn follow_ending(
        &self,
        context: &Context,
        ending: &Ending,
        meta: Option<TaskMeta>,
        limits: Limits,
    ) -> Option<Vec<Effect>> {
        let followed = self.runtime.follow_ending(context.request(), ending, meta, limits);
        let (called, effects) = Box::pin(followed).await;
        // What is not acknowledged runs again with its errbacks.
        let comes_back = !self.acknowledged || self.runtime.life.gives_back_all();
        if called == Called::Cancelled && comes_back {
            self.give_up(context).await;
            return None;
        }
        Some(effects)
    }

    /// What may end the errbacks that are called after the run.
    fn limits(&self, request: &Request) -> Limits {
        let known = self.runtime.state.requests().get(&self.serial).map(|known| known.terminate.clone());
        self.runtime.limits(request, Some(self.definition), known.unwrap_or_default())
    }

    pub(in crate::worker) async fn reject(&self, context: &Context, reason: String, requeue: bool) {
        let request = context.request();
        log::warn!(task_id = request.id.as_str(), task_name = request.task.as_str(); "Task {}[{}] rejected: {reason}", request.display_name(), request.id);
        let tell = || {
            if !self.acknowledged {
                self.events().rejected(&request.id, requeue);
                self.counters.rejected.inc();
            }
        };
        if requeue {
            tell();
            self.finish(Disposition::Requeue, Vec::new(), Some(request)).await;
            return;
        }
        let ending = Ending::rejected(&reason);
        let exception = &ending.exception;
        let stores = self.stores_errors(request);
        let meta = stores.then(|| self.meta(request, TaskState::Failure, exception.to_value()));
        let Some(effects) = self.follow_ending(context, &ending, meta, self.limits(request)).await else {
            return;
        };
        let disposition = match self.runtime.config().celeriac_dead_letter_rejected {
            true => Disposition::Dead(DeadReason::Rejected, Vec::new()),
            false => Disposition::Ack,
        };
        self.finish(disposition, effects, Some(request)).await;
        // In this order, so that monitors keep the task as rejected.
        self.events().failed(&request.id, exception, Some(&exception.traceback(None)));
        self.counters.fail(&exception.exc_type);
        tell();
        hooks::each(&self.runtime.hooks.task_failure, |hook| hook(request, exception));
    }

    /// Gives a message up of which the worker died too often.
    pub(crate) async fn give_to_the_dead(&self, context: &Context, history: &[Start]) {
        let request = context.request();
        let ending = Ending::poisonous(history.len());
        let error = ending.exception.repr();
        log::error!(task_id = request.id.as_str(), task_name = request.task.as_str(), deliveries = history.len() + 1; "Task {}[{}] is given to the dead letters: {error}", request.display_name(), request.id);
        self.report_failure(context, &ending, Reported::Poison(history)).await;
    }

    fn stores_errors(&self, request: &Request) -> bool {
        let stores = self.definition.options.store_errors_even_if_ignored;
        !self.ignores_result(request)
            || stores.unwrap_or(self.runtime.config().task_store_errors_even_if_ignored)
    }

    /// What becomes of the message: without `acks_on_failure` it is rejected, without `acks_on_timeout` it comes back.
    fn disposition_after_failure(&self, request: &Request, reported: Reported<'_>) -> Disposition {
        if self.acknowledged {
            return Disposition::Ack;
        }
        let (config, options) = (self.runtime.config(), &self.definition.options);
        let (acks, disposition) = match reported {
            Reported::Poison(history) => (false, Disposition::Dead(DeadReason::Deliveries, history.to_vec())),
            // On Redis a message that is rejected for good is gone, as one that is acknowledged.
            Reported::ByTask => {
                (options.acks_on_failure.unwrap_or(config.acks_on_failure()), Disposition::Ack)
            }
            Reported::OnTimeout => {
                (options.acks_on_timeout.unwrap_or(config.acks_on_timeout()), Disposition::Requeue)
            }
        };
        if acks {
            return Disposition::Ack;
        }
        self.events().rejected(&request.id, disposition == Disposition::Requeue);
        self.counters.rejected.inc();
        disposition
    }
}
