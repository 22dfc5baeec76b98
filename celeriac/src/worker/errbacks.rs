//! Errbacks that are called in the worker's own process, before the failed task is acknowledged.
//!
//! Source: celery 5.7 `_call_task_errbacks` in `celery/backends/base.py`.

use std::sync::Arc;

use super::execute::{Limits, after};
use super::layers::call;
use super::runtime::Runtime;
use crate::backend::ExceptionInfo;
use crate::canvas::ErrbackStyle;
use crate::message::{Map, Signature};
use crate::task::{Context, Request, takes_more_than};

/// How calling errbacks came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    /// Each one returned, failed or panicked, or the rest was given up.
    Done,
    /// The worker is shutting down cold: they are to be called again.
    Cancelled,
}

/// A failure as in-process errbacks are told of it.
#[derive(Clone, Copy)]
pub(crate) struct Failed<'a> {
    /// The id of what failed: the task, or the body of its chord.
    pub(crate) id: &'a str,
    /// Its name.
    pub(crate) task: &'a str,
    pub(crate) exception: &'a ExceptionInfo,
    pub(crate) traceback: Option<&'a str>,
}

impl Runtime {
    /// How an errback is called: in this process only when it is known here and wants more than the failed task's id.
    pub(crate) fn errback_style(&self, errback: &Signature) -> ErrbackStyle {
        let Some(definition) = self.registry.get(errback.task.as_str()) else { return ErrbackStyle::Message };
        let Some(parameters) = definition.parameters else { return ErrbackStyle::Message };
        match takes_more_than(parameters, errback, 1) {
            true => ErrbackStyle::InProcess,
            false => ErrbackStyle::Message,
        }
    }

    /// Calls errbacks one after the other and waits for them; what fails or panics is only logged.
    ///
    /// In all they may take as long as the hard time limit of the task that failed, if it has one. Terminating that task
    /// ends them too.
    pub(crate) async fn call_errbacks(
        &self,
        errbacks: &[(&Signature, Failed<'_>)],
        request: &Request,
        limits: Limits,
    ) -> Called {
        let calls = async {
            for (errback, failed) in errbacks {
                self.call_errback(errback, request, *failed).await;
            }
        };
        let reason = tokio::select! {
            biased;
            () = calls => return Called::Done,
            () = limits.abort.cancelled() => return Called::Cancelled,
            () = limits.terminate.cancelled() => "the task was terminated",
            () = after(limits.hard) => "they took longer than the task's hard time limit",
        };
        log::error!(task_id = request.id.as_str(), task_name = request.task.as_str(); "Errbacks of {}[{}] were given up: {reason}", request.display_name(), request.id);
        Called::Done
    }

    /// Calls an errback with the failed request, its exception and traceback.
    async fn call_errback(&self, errback: &Signature, request: &Request, failed: Failed<'_>) {
        let Some(definition) = self.registry.get(errback.task.as_str()).cloned() else { return };
        let Failed { id, task, exception, traceback } = failed;
        let told = crate::value!({"id": id, "task": task, "root_id": request.root_id()});
        let given = [told, exception.to_value(), traceback.map(str::to_owned).into()];
        let merged = errback.merge(&given, &Map::new(), &Map::new());
        let mut own = request.clone();
        own.body.args = merged.args;
        own.body.kwargs = merged.kwargs;
        own.task.clone_from(&errback.task);
        let context = Context::for_run(Arc::clone(&definition), own, self.states.clone(), self.app.clone());
        if let Err(error) = call(&definition.handler, None, context).await {
            let name = errback.task.as_str();
            log::error!(task_id = id, task_name = name, error:? = error; "Errback {name} failed");
        }
    }
}
