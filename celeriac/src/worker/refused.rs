//! The end of a task whose outcome the server refuses: it fails, so that whoever waits for it learns why.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::completion::Reported;
use super::completion::{Completion, meta};
use super::insist::Uncommitted;
use super::runtime::Runtime;
use crate::backend::{ExceptionInfo, TaskState};
use crate::broker::refusal::Refusal;
use crate::broker::{Answers, Batch, DeadReason, Disposition, Hopeless, Owner, Settlement};
use crate::message::{Message, Properties, Serializer};
use crate::task::{Context, Failure, Request};

/// How long it is tried to store a failure in another database.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who settles a task otherwise when what it comes to is refused, and how often that happened.
#[derive(Clone, Copy, Default)]
pub(crate) struct Standing<'a> {
    /// The run; nobody when there was none.
    pub(crate) context: Option<&'a Context>,
    /// The refused settlement for which this one stands in.
    pub(crate) replaces: Option<u64>,
    /// How many were refused before.
    pub(crate) level: u8,
}

impl Runtime {
    /// Settles what the consumer could not settle.
    pub(super) fn settle_otherwise(self: &Arc<Self>, hopeless: Hopeless) {
        let Hopeless { number, serial, owner, refusal, limit, level } = hopeless;
        let Some(context) = self.context_of(owner) else {
            log::error!(refusal:% = refusal; "A settlement is refused, and nobody knows its task any more: {refusal}");
            return;
        };
        let runtime = Arc::clone(self);
        self.life.background.spawn(async move {
            let standing = Standing { context: Some(&context), replaces: Some(number), level };
            let uncommitted = Uncommitted::Refused { refusal, limit };
            runtime.end_otherwise(serial, standing, uncommitted).await;
        });
    }

    /// Commits in steps, in the order that loses nothing, what the consumer could not commit in one: the server does not
    /// let one transaction reach broker and results any more.
    pub(super) fn settle_apart(self: &Arc<Self>, settlement: Settlement) {
        let runtime = Arc::clone(self);
        self.life.background.spawn(async move {
            let Settlement { serial, disposition, batch, answers, owner, replaces } = settlement;
            let (refused, committed) = match runtime.commit_in_steps(batch).await {
                Ok(stored) => (None, Ok(stored)),
                Err(uncommitted) => {
                    let (Uncommitted::Refused { refusal, .. } | Uncommitted::Ending(refusal)) = &uncommitted;
                    let refusal = refusal.clone();
                    (Some(uncommitted), Err(refusal))
                }
            };
            if let Some(listener) = answers {
                let _ = listener.send(committed);
            }
            let Some(uncommitted) = refused else {
                let commit = Settlement::commit(disposition, Batch::Empty);
                return runtime.settle(Settlement { serial, owner, replaces, ..commit });
            };
            match (owner.and_then(|owner| runtime.context_of(owner)), uncommitted) {
                (Some(context), uncommitted) => {
                    let level = u8::from(replaces.is_some());
                    let standing = Standing { context: Some(&context), replaces, level };
                    runtime.end_otherwise(serial, standing, uncommitted).await;
                }
                (_, Uncommitted::Refused { refusal, .. }) => {
                    log::error!(code = refusal.code(); "What belongs to no task is dropped: {refusal}");
                    runtime.settle(Settlement {
                        serial,
                        replaces,
                        ..Settlement::commit(disposition, Batch::Empty)
                    });
                }
                (_, Uncommitted::Ending(refusal)) => {
                    log::error!(code = refusal.code(); "Nothing is stored, since the worker ends: {refusal}");
                    if let Some(serial) = serial {
                        runtime.settle(Settlement::of(serial, Disposition::Restore));
                    }
                }
            }
        });
    }

    /// Carries out writes for the result backend, then what they prepare at the broker, then the rest; returns the answers
    /// to the last ones.
    async fn commit_in_steps(&self, batch: Batch) -> Result<Answers, Uncommitted> {
        let [prepare, publish, results] = batch.into_steps();
        let Some(backend) = self.app.result_backend() else { return self.commit_once(publish).await };
        self.store(backend, &prepare).await?;
        self.commit_once(publish).await?;
        self.store(backend, &results).await
    }

    /// The context of a run; where only its message is kept it is made again.
    fn context_of(&self, owner: Owner) -> Option<Context> {
        let parts = match owner {
            Owner::Message(parts) => parts,
            Owner::Opaque(context) => return Context::from_opaque(context),
        };
        let request = || {
            let hostname = &self.state.hostname;
            if let Ok(Some(body)) = parts.body.decode_triple(&self.accept) {
                return Some(Request::new(
                    Arc::clone(&parts.headers),
                    Arc::clone(&parts.properties),
                    body,
                    hostname,
                ));
            }
            let (message, body) = parts.message().into_task(&self.accept).ok()?;
            Some(Request::new(message.headers, message.properties, body, hostname))
        };
        let definition = parts.headers.task.as_deref().and_then(|name| self.registry.get(name));
        match (definition, request()) {
            (Some(definition), Some(request)) => {
                let (definition, states) = (Arc::clone(definition), self.states.clone());
                Some(Context::for_run(definition, request, states, self.app.clone()))
            }
            _ => None,
        }
    }

    /// Ends a task whose outcome was refused that often: it fails like any other task; if the server refuses what follows
    /// from that, only the failure is stored; if it refuses that too, the message goes to the dead letters alone.
    pub(super) async fn end_otherwise(
        self: &Arc<Self>,
        serial: Option<u64>,
        standing: Standing<'_>,
        uncommitted: Uncommitted,
    ) {
        let Standing { context: Some(context), replaces, level } = standing else { return };
        let request = context.request();
        let exception = match uncommitted {
            Uncommitted::Refused { refusal, limit } => {
                if let (Some(limit), Some(backend)) = (limit, self.app.result_backend()) {
                    backend.limit_to(limit);
                }
                log::error!(
                    task_id = request.id.as_str(), task_name = request.task.as_str(),
                    queue = request.delivery_info().routing_key.as_str(), code = refusal.code(),
                    command = refusal.command.as_str(), key = refusal.key.as_deref().unwrap_or_default();
                    "What task {}[{}] comes to is refused: {refusal}", request.display_name(), request.id
                );
                exception(&refusal)
            }
            Uncommitted::Ending(refusal) => return self.leave_unstored(serial, request, &refusal),
        };
        if level == 0 && context.definition().is_some() {
            return self.fail_run(serial, context, replaces, exception).await;
        }
        log::error!(task_id = request.id.as_str(), task_name = request.task.as_str(), queue = request.delivery_info().routing_key.as_str(); "Task {}[{}] is given to the dead letters: what follows from its failure is not accepted", request.display_name(), request.id);
        let mut store = Batch::Empty;
        if let Some(backend) = self.app.result_backend().filter(|_| level < 2) {
            let meta = meta(self, request, TaskState::Failure, exception.to_value());
            store = backend.storing(&meta, true);
            if !self.app.commits_together() {
                // It is the last that is tried there: a wrong right is soon repaired.
                let (batch, begun) = (std::mem::take(&mut store), Instant::now());
                while let Err(Uncommitted::Refused { .. }) = self.store(backend, &batch).await
                    && begun.elapsed() < PATIENCE
                {}
            }
        }
        if serial.is_none() {
            store.append(self.letter(request));
        }
        let disposition = Disposition::Dead(DeadReason::Refused, Vec::new());
        let owner = Some(Owner::Opaque(context.opaque()));
        self.settle(Settlement { serial, owner, replaces, ..Settlement::commit(disposition, store) });
    }

    /// Fails the task of a run with that exception.
    pub(super) async fn fail_run(
        self: &Arc<Self>,
        serial: Option<u64>,
        context: &Context,
        replaces: Option<u64>,
        exception: ExceptionInfo,
    ) {
        // Whose outcome can be unstorable has one, as who comes from above.
        let Some(definition) = context.definition() else { return };
        let queue = context.request().delivery_info().routing_key.as_str().into();
        let completion = Completion {
            runtime: self,
            definition,
            counters: &self.counters.task(&definition.name, &queue),
            serial: serial.unwrap_or_default(),
            acknowledged: serial.is_none(),
            started: Instant::now(),
            standing: Standing { context: Some(context), replaces, level: 1 },
            body: None,
        };
        let failure = Failure { exception, traceback: None, expected: false };
        Box::pin(completion.fail(context, failure, Reported::ByTask)).await;
    }

    /// Leaves a task that has run while the server does not take what it comes to: its message comes back, or is kept
    /// among the dead letters if it was acknowledged.
    fn leave_unstored(&self, serial: Option<u64>, request: &Request, refusal: &Refusal) {
        log::error!(task_id = request.id.as_str(), task_name = request.task.as_str(), queue = request.delivery_info().routing_key.as_str(); "What task {}[{}] comes to is not stored, since the worker ends: {refusal}", request.display_name(), request.id);
        match serial {
            Some(serial) => self.settle(Settlement::of(serial, Disposition::Restore)),
            None => self.commit_alone(self.letter(request)),
        }
    }

    /// Returns the write that keeps the message of a request among the dead letters.
    fn letter(&self, request: &Request) -> Batch {
        let properties = Properties::clone(&request.properties);
        let mut message = Message { headers: (*request.headers).clone(), properties, ..Message::default() };
        if let Err(error) = message.set_body(&request.body, Serializer::Json, None) {
            log::error!(task_id = request.id.as_str(), error:% = error; "The message of {} cannot be kept: {error}", request.id);
            return Batch::Empty;
        }
        self.letter_of(&message)
    }

    /// Returns the write that keeps a message among the dead letters which the server refuses.
    pub(super) fn letter_of(&self, message: &Message) -> Batch {
        let queue = &message.properties.delivery_info.routing_key;
        self.app.broker().letter(DeadReason::Refused, message, queue, &self.state.hostname)
    }
}

/// The exception with which a task fails whose outcome the server refuses: kombu's of what cannot be encoded, if it is too
/// large, else kombu's of a broker that refuses.
pub(super) fn exception(refusal: &Refusal) -> ExceptionInfo {
    let class = if refusal.is_closed() { "EncodeError" } else { "OperationalError" };
    ExceptionInfo::new("kombu.exceptions", class, vec![refusal.to_string().into()])
}
