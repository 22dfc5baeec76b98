//! Sending the body of a complete chord.

use std::borrow::Cow;
use std::sync::Arc;

use super::claim::{Claim, completed_by};
use super::join::Parts;
use crate::app::Steps;
use crate::backend::{Backend, ExceptionInfo, Freshness, GroupChange, PartAnswer};
use crate::broker::Answers;
use crate::canvas::{self, Outbox};
use crate::failpoints::fail_point;
use crate::task::Request;
use crate::worker::insist::Uncommitted;
use crate::worker::refused::exception;
use crate::worker::runtime::Runtime;

impl Runtime {
    /// Goes on with the chords that the parts just returned have completed.
    pub(in crate::worker) async fn follow_claims(
        self: &Arc<Self>,
        claims: Vec<Claim>,
        answers: Answers,
        request: &Request,
    ) {
        let Some(backend) = self.app.result_backend() else { return };
        let answers = backend.part_answers(answers, claims.len());
        for (claim, answer) in claims.iter().zip(answers) {
            let answer = match answer {
                Some(answer) => answer,
                // The answer was lost; counting a part again changes nothing.
                None => {
                    let again = self.insist(|| backend.carry_out(claim.returning(backend))).await;
                    backend.part_answers(again, 1).into_iter().flatten().next().unwrap_or(PartAnswer::UNKNOWN)
                }
            };
            if answer.claimed {
                fail_point!("chord.claimed");
                self.complete_chord(backend, &self.informed(claim, &answer.completing), request).await;
            } else if !answer.has_size && claim.freshness == Freshness::Redelivered {
                let (group_id, task_id) = (claim.part.group_id.as_str(), claim.part.task_id.as_str());
                log::warn!(group_id, task_id; "Part {task_id} came again and the counters of chord {group_id} are gone: its body is not sent unless the chord has ended before\nhint: see result_expires and result_chord_expires");
            }
        }
    }

    /// The claim with the body that another part knows, if its own could not be read.
    fn informed<'a>(&self, claim: &'a Claim, completing: &[u8]) -> Cow<'a, Claim> {
        if claim.part.body.is_some() || completing.is_empty() {
            return Cow::Borrowed(claim);
        }
        let mut claim = claim.clone();
        match completed_by(completing, &self.state.hostname) {
            Ok(request) => claim.part.body = request.body.embed.chord.map(|body| *body),
            Err(error) => {
                let group_id = claim.part.group_id.as_str();
                log::error!(group_id, error:% = error; "The part from which chord {group_id} is to go on cannot be read: {error}");
            }
        }
        Cow::Owned(claim)
    }

    /// Ends the counting of a complete chord whose body is not known: none of its parts could be read, or only by workers that
    /// did not leave it.
    pub(super) async fn abandon_chord(&self, backend: &Backend, group_id: &str) {
        log::error!(group_id; "The parts of chord {group_id} have ended, but its body is not known since none of their messages could be read: it stays PENDING\nhint: let the worker accept what its clients send (accept_content)");
        let failed = GroupChange::Failed { group_id: group_id.to_owned() };
        self.insist(|| backend.carry_out(backend.changing(&failed))).await;
    }

    /// Sends the body of a chord that is claimed.
    pub(super) async fn complete_chord(
        self: &Arc<Self>,
        backend: &Backend,
        claim: &Claim,
        request: &Request,
    ) {
        let part = &claim.part;
        let Some(body) = &part.body else { return self.abandon_chord(backend, &part.group_id).await };
        let joining = self.insist(|| async { self.chord_results(backend, part).await.map(Some) });
        let Some(joined) = self.while_claimed(backend, claim, joining).await else {
            return tell_of_another(claim);
        };
        let parts = match joined {
            Some(Parts::Results(results)) => results,
            Some(Parts::Failed { task_id, exception }) => {
                let cause = ExceptionInfo::from_value(&exception);
                return self
                    .fail_chord(claim, &canvas::dependency_error(&task_id, &cause), &cause, request)
                    .await;
            }
            Some(Parts::Unjoined { exception }) => {
                let error = canvas::join_error(&ExceptionInfo::from_value(&exception));
                return self.fail_chord(claim, &error, &error, request).await;
            }
            None => return,
        };
        fail_point!("chord.joined");
        if !self.keeps(backend, claim).await {
            return tell_of_another(claim);
        }
        fail_point!("chord.extended");
        let mut outbox = Outbox::new();
        let sent = self.app.with_sender(Some(request), |sender| {
            canvas::chord_ready(body, parts, request, sender, &mut outbox)
        });
        if let Err(error) = sent {
            let exception = ExceptionInfo::celery("ChordError", format!("Callback error: {error}"));
            return self.fail_chord(claim, &exception, &exception, request).await;
        }
        let steps = self.try_insist(|| self.app.steps(outbox.effects.clone())).await;
        let Steps { prepare, publish, results, .. } = match steps {
            Ok(steps) => steps,
            Err(uncommitted) => return self.fail_body(claim, uncommitted, request).await,
        };
        let results = prepare.and(results);
        let ending = backend.ending_chord(&part.group_id, &claim.token);
        let together = match self.app.commits_together() {
            true => {
                let keeping = backend.keeping_claim(&part.group_id, &claim.token);
                let then = [results.clone(), publish.clone(), ending.clone()];
                Some(self.commit_if(keeping, then).await)
            }
            false => None,
        };
        let is_of_joining = |uncommitted: &Uncommitted| matches!(uncommitted, Uncommitted::Refused { refusal, .. } if refusal.is_of_joining());
        let is_sent = if let Some(is_sent) = together.filter(|sent| !sent.as_ref().is_err_and(is_of_joining))
        {
            is_sent
        } else {
            if let Err(uncommitted) = self.store(backend, &results).await {
                return self.fail_body(claim, uncommitted, request).await;
            }
            fail_point!("chord.prepared");
            // The claim, which is at another server, may have ended while the broker was away.
            let mark = self.app.broker().mark_sent(&part.group_id, &request.properties.delivery_tag);
            let is_sent = self.commit_if(mark.unwrap_or_default(), [publish]).await;
            fail_point!("chord.published");
            if is_sent.is_ok() {
                self.insist(|| backend.carry_out(ending.clone())).await;
            }
            is_sent
        };
        match is_sent {
            Ok(true) => {}
            Ok(false) => {
                log::warn!(group_id = part.group_id.as_str(); "The body of chord {} was sent by another worker", part.group_id);
            }
            Err(uncommitted) => return self.fail_body(claim, uncommitted, request).await,
        }
        fail_point!("chord.sent");
    }

    /// Fails a chord whose body the server refuses.
    async fn fail_body(self: &Arc<Self>, claim: &Claim, uncommitted: Uncommitted, request: &Request) {
        let group_id = claim.part.group_id.as_str();
        match uncommitted {
            Uncommitted::Refused { refusal, .. } => {
                log::error!(group_id, code = refusal.code(), command = refusal.command.as_str(), key = refusal.key.as_deref().unwrap_or_default(); "The body of chord {group_id} is refused: {refusal}");
                let text = format!("Callback error: {}", exception(&refusal).repr());
                let exception = ExceptionInfo::celery("ChordError", text);
                self.fail_chord(claim, &exception, &exception, request).await;
            }
            // The chord stays registered: whoever looks after the claim has ended goes on with it.
            Uncommitted::Ending(refusal) => {
                log::error!(group_id; "The body of chord {group_id} is left to another worker: {refusal}");
            }
        }
    }
}

fn tell_of_another(claim: &Claim) {
    let group_id = claim.part.group_id.as_str();
    log::warn!(group_id; "The body of chord {group_id} is sent by another worker");
}
