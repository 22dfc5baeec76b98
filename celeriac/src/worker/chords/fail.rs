//! Failing the body of a chord.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Claim;
use crate::backend::ExceptionInfo;
use crate::canvas::{self, Effect, Errbacks, Outbox};
use crate::message::Signature;
use crate::task::Request;
use crate::worker::errbacks::{Called, Failed};
use crate::worker::runtime::Runtime;

impl Runtime {
    /// Fails a chord that is claimed: its body with what waits for it.
    ///
    /// `exception` is that of the body, `cause` that of the part that failed.
    pub(super) async fn fail_chord(
        self: &Arc<Self>,
        claim: &Claim,
        exception: &ExceptionInfo,
        cause: &ExceptionInfo,
        request: &Request,
    ) {
        let part = &claim.part;
        let Some(backend) = self.app.redis_backend() else { return };
        if !self.keeps(backend, claim).await {
            log::warn!(group_id = part.group_id.as_str(); "Chord {} is failed by another worker", part.group_id);
            return;
        }
        log::error!(group_id = part.group_id.as_str(), error = exception.repr().as_str(); "Chord {} raised: {}", part.group_id, exception.repr());
        let mut outbox = Outbox::new();
        let style = |errback: &Signature| self.errback_style(errback);
        let errbacks = self.app.with_sender(Some(request), |sender| {
            canvas::chord_error(&part.body, exception, cause, request, &style, sender, &mut outbox)
        });
        let Errbacks { in_process: errbacks, unsent } = errbacks.unwrap_or_else(|error| {
            log::error!(error:% = error; "The body of chord {} cannot be failed: {error}", part.group_id);
            Errbacks { in_process: Vec::new(), unsent: Vec::new() }
        });
        for error in unsent {
            log::error!(group_id = part.group_id.as_str(), error:% = error; "An errback of the body of chord {} cannot be sent: {error}", part.group_id);
        }
        // Failing the body may complete an outer chord: its parts are returned as those of any task.
        outbox.effects.push(Effect::ChordFailed { group_id: part.group_id.clone() });
        // However long it takes, and however many chords around this one fail with it, whoever is here goes on; the chord
        // is registered until it is done.
        let (runtime, claim, request) = (Arc::clone(self), claim.clone(), request.clone());
        let effects = outbox.effects;
        self.background.spawn(async move {
            if errbacks.is_empty() {
                return runtime.finish_boxed(effects, &request).await;
            }
            let told = errbacks.iter().map(|call| {
                let (id, task, exception) = (&call.id, &call.task, &call.exception);
                (&call.errback, Failed { id, task, exception, traceback: None })
            });
            let errbacks: Vec<_> = told.collect();
            if runtime.call_chord_errbacks(&claim, &errbacks, &request).await {
                runtime.finish_boxed(effects, &request).await;
            } else {
                log::warn!(group_id = claim.part.group_id.as_str(); "The errbacks of chord {} are left to another worker", claim.part.group_id);
            }
        });
    }

    /// Calls the errbacks of a chord's body while the chord is claimed; whether they were called, and the claim kept.
    async fn call_chord_errbacks(
        &self,
        claim: &Claim,
        errbacks: &[(&Signature, Failed<'_>)],
        request: &Request,
    ) -> bool {
        let Some(backend) = self.app.redis_backend() else { return false };
        if !self.keeps(backend, claim).await {
            return false;
        }
        let definition = self.registry.get(request.task.as_str());
        let limits = self.limits(request, definition.map(|known| &**known), CancellationToken::new());
        let calls = self.call_errbacks(errbacks, request, limits);
        self.while_claimed(backend, claim, calls).await == Some(Called::Done)
    }
}
