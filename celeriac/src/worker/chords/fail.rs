//! Failing the body of a chord.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::Claim;
use crate::app::Steps;
use crate::backend::ExceptionInfo;
use crate::broker::Batch;
use crate::canvas::{self, Effect, Errbacks, Outbox};
use crate::message::Signature;
use crate::task::Request;
use crate::worker::errbacks::{Called, Failed};
use crate::worker::insist::Uncommitted;
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
        let (Some(backend), Some(body)) = (self.app.result_backend(), &part.body) else { return };
        if !self.keeps(backend, claim).await {
            log::warn!(group_id = part.group_id.as_str(); "Chord {} is failed by another worker", part.group_id);
            return;
        }
        log::error!(group_id = part.group_id.as_str(), error = exception.repr().as_str(); "Chord {} raised: {}", part.group_id, exception.repr());
        let mut outbox = Outbox::new();
        let style = |errback: &Signature| self.errback_style(errback);
        let errbacks = self.app.with_sender(Some(request), |sender| {
            canvas::chord_error(body, exception, cause, request, &style, sender, &mut outbox)
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
        self.life.background.spawn(async move {
            if errbacks.is_empty() {
                return runtime.end_chord(&claim, effects, &request).await;
            }
            let told = errbacks.iter().map(|call| {
                let (id, task, exception) = (&call.id, &call.task, &call.exception);
                (&call.errback, Failed { id, task, exception, traceback: None })
            });
            let errbacks: Vec<_> = told.collect();
            if runtime.call_chord_errbacks(&claim, &errbacks, &request).await {
                runtime.end_chord(&claim, effects, &request).await;
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
        let Some(backend) = self.app.result_backend() else { return false };
        if !self.keeps(backend, claim).await {
            return false;
        }
        let definition = self.registry.get(request.task.as_str());
        let limits = self.limits(request, definition.map(|known| &**known), CancellationToken::new());
        let calls = self.call_errbacks(errbacks, request, limits);
        self.while_claimed(backend, claim, calls).await == Some(Called::Done)
    }

    /// Commits what follows from the failure of a chord. If the server refuses it, the messages go to the dead letters; if it
    /// refuses that too, each effect is committed alone, so that only the refused ones are missing.
    async fn end_chord(self: &Arc<Self>, claim: &Claim, effects: Vec<Effect>, request: &Request) {
        let group_id = claim.part.group_id.as_str();
        let Some(left) = self.try_ending(group_id, effects, Sending::Messages, request).await else { return };
        let Some(left) = self.try_ending(group_id, left, Sending::DeadLetters, request).await else { return };
        for effect in left {
            let sending = Sending::DeadLetters;
            if self.try_ending(group_id, vec![effect], sending, request).await.is_some() {
                log::error!(group_id; "A part of the end of chord {group_id} is missing, since the server refuses it");
            }
        }
    }

    /// Commits effects of a chord's end; returns them if the server refuses them.
    async fn try_ending(
        self: &Arc<Self>,
        group_id: &str,
        effects: Vec<Effect>,
        sending: Sending,
        request: &Request,
    ) -> Option<Vec<Effect>> {
        match self.commit_ending(effects.clone(), sending, request).await {
            Ok(()) => None,
            Err(Uncommitted::Refused { refusal, .. }) => {
                log::error!(group_id, code = refusal.code(), command = refusal.command.as_str(), key = refusal.key.as_deref().unwrap_or_default(); "The end of chord {group_id} is refused: {refusal}");
                Some(effects)
            }
            // The chord stays registered: whoever looks after the claim has ended goes on with it.
            Err(Uncommitted::Ending(refusal)) => {
                log::error!(group_id; "The end of chord {group_id} is left to another worker: {refusal}");
                None
            }
        }
    }

    /// Commits effects of a chord's end, and goes on with the chords around it that this completes; boxed, since these may
    /// fail too.
    fn commit_ending<'a>(
        self: &'a Arc<Self>,
        effects: Vec<Effect>,
        sending: Sending,
        request: &'a Request,
    ) -> BoxFuture<'a, Result<(), Uncommitted>> {
        Box::pin(async move {
            let (mut effects, mut letters) = (effects, Batch::Empty);
            if sending == Sending::DeadLetters {
                effects.retain(|effect| match effect {
                    Effect::Publish(message) => {
                        letters.append(self.letter_of(message));
                        false
                    }
                    effect => !matches!(effect, Effect::TaskSent(_)),
                });
            }
            let Steps { prepare, publish, mut results, parts, revoked } =
                self.try_insist(|| self.app.steps(effects.clone())).await?;
            self.revoke_all(&revoked);
            let publish = publish.and(letters);
            let Some(backend) = self.app.result_backend() else { return Ok(()) };
            let claims = self.claims(parts, Some(request));
            claims.iter().for_each(|claim| results.append(claim.returning(backend)));
            let answers = if self.app.commits_together() {
                self.commit_once(prepare.and(publish).and(results)).await?
            } else {
                self.store(backend, &prepare).await?;
                self.commit_once(publish).await?;
                self.store(backend, &results).await?
            };
            self.follow_claims(claims, answers, request).await;
            Ok(())
        })
    }
}

/// What becomes of the messages that a chord's end sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// They are published.
    Messages,
    /// They are kept among the dead letters.
    DeadLetters,
}
