//! The end of tasks that will never complete: all that follows is stored, sent and called before their message goes.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::commit::Commit;
use super::errbacks::{Called, Failed};
use super::execute::Limits;
use super::refused::Standing;
use super::runtime::Runtime;
use crate::backend::TaskMeta;
use crate::broker::{Disposition, Settlement};
use crate::canvas::{self, Effect, Ending, Errbacks, Outbox};
use crate::failpoints::fail_point;
use crate::message::{Parts, Remains, Signature};
use crate::task::{Context, Request};

/// A delivery of which no task is run.
pub(crate) struct Unstarted {
    pub(crate) parts: Parts,
    pub(crate) serial: u64,
    pub(crate) acknowledged: bool,
    /// What becomes of the message once it is known to all that wait for it that its task will not run.
    pub(crate) disposition: Disposition,
}

impl Runtime {
    /// Does what follows from the end of a task that will never complete, as [`canvas::never_completes`] says; `meta` is
    /// its own record, if there is to be one.
    ///
    /// Errbacks that take the exception are called here, when what is stored of the failure is there to be seen. Returns
    /// how that went and what is left to be committed with the acknowledgement.
    pub(super) async fn follow_ending(
        self: &Arc<Self>,
        request: &Request,
        ending: &Ending,
        meta: Option<TaskMeta>,
        limits: Limits,
    ) -> (Called, Vec<Effect>) {
        let mut outbox = Outbox::new();
        outbox.effects.extend(meta.map(|meta| Effect::Store(Box::new(meta))));
        let style = |errback: &Signature| self.errback_style(errback);
        let Errbacks { in_process, unsent } = self.app.with_sender(Some(request), |sender| {
            canvas::never_completes(request, ending, &style, sender, &mut outbox)
        });
        for error in unsent {
            log::error!(task_id = request.id.as_str(), error:% = error; "An errback of {} cannot be sent: {error}", request.id);
        }
        if in_process.is_empty() {
            return (Called::Done, outbox.effects);
        }
        let Ending { exception, traceback, .. } = ending;
        let failed =
            Failed { id: &request.id, task: &request.task, exception, traceback: traceback.as_deref() };
        let errbacks: Vec<_> = in_process.iter().map(|errback| (errback, failed)).collect();
        let left = self.store_ahead(outbox.effects, request).await;
        fail_point!("errbacks.stored");
        let called = self.call_errbacks(&errbacks, request, limits).await;
        fail_point!("errbacks.called");
        (called, left)
    }

    /// Ends a task that does not run: its message was refused or revoked, has expired, or names a task that is unknown.
    ///
    /// `meta` makes its own record of the request.
    pub(super) async fn end_unstarted(
        self: &Arc<Self>,
        unstarted: Unstarted,
        ending: &Ending,
        meta: impl FnOnce(&Request) -> Option<TaskMeta>,
    ) {
        let Unstarted { parts, serial, acknowledged, disposition } = unstarted;
        let (request, lacks_chord) = self.decode(&parts.body, || self.request_of(&parts)).await;
        let meta = meta(&request);
        let definition = self.registry.get(request.task.as_str());
        let limits = self.limits(&request, definition.map(|known| &**known), CancellationToken::new());
        let (called, mut effects) = self.follow_ending(&request, ending, meta, limits).await;
        let part = if lacks_chord { canvas::unread_part(&request, ending) } else { None };
        effects.extend(part.map(|part| Effect::ChordPart(Box::new(part))));
        // What is not acknowledged comes back, and its errbacks are called then.
        if called == Called::Cancelled && !acknowledged {
            return self.settle(Settlement::of(serial, Disposition::Restore));
        }
        let context = match definition {
            Some(known) => {
                Context::for_run(Arc::clone(known), request, self.states.clone(), self.app.clone())
            }
            None => Context::new(request, self.states.clone()),
        };
        let standing = Standing { context: Some(&context), ..Standing::default() };
        let serial = (!acknowledged).then_some(serial);
        let request = Some(context.request());
        self.commit(Commit { serial, disposition, effects, request, standing }).await;
    }

    /// The request of a message, of one that cannot be read as much as can, and whether its chord may be missing.
    fn request_of(&self, parts: &Parts) -> (Request, bool) {
        match parts.message().into_task(&self.accept) {
            Ok((message, body)) => {
                (Request::new(message.headers, message.properties, body, &self.state.hostname), false)
            }
            Err(_) => {
                let Remains { body, lacks_chord } = parts.body.remains(&self.accept);
                let (headers, properties) = (Arc::clone(&parts.headers), Arc::clone(&parts.properties));
                (Request::new(headers, properties, body, &self.state.hostname), lacks_chord)
            }
        }
    }
}
