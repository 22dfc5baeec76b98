//! The end of a run that succeeded.

use std::sync::Arc;

use super::failure::Reported;
use super::{Completion, correlation_id};
use crate::backend::{ExceptionInfo, TaskState};
use crate::broker::{Batch, Disposition, Owner, Settlement};
use crate::canvas::{self, Effect, Outbox};
use crate::message::{Parts, Value};
use crate::task::{Context, Failure, Request};
use crate::worker::hooks;

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
            Some(body) => Owner::Message(Parts {
                headers: Arc::clone(&request.headers),
                properties: Arc::clone(&request.properties),
                body: Arc::clone(body),
            }),
            None => Owner::Opaque(context.opaque()),
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
}
