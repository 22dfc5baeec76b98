//! Committing what a run, or a delivery without one, comes to: together with the settlement of its message where broker
//! and result backend allow that, else in the order that loses nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::insist::Uncommitted;
use super::refused::Standing;
use super::runtime::Runtime;
use crate::app::Steps;
use crate::backend::{ExceptionInfo, TaskState};
use crate::broker::refusal::Refusal;
use crate::broker::{Answers, Batch, Disposition, Owner, Settlement};
use crate::canvas::Effect;
use crate::failpoints::fail_point;
use crate::node::lock;
use crate::task::Request;

/// How long the broker's answer is waited for when the worker is in a hurry to end.
const LAST_ANSWER: Duration = Duration::from_secs(3);

/// What is to be committed.
pub(crate) struct Commit<'a> {
    /// The delivery that is settled; `None` when it was settled before.
    pub(crate) serial: Option<u64>,
    /// What becomes of it.
    pub(crate) disposition: Disposition,
    /// What is stored and sent together with that.
    pub(crate) effects: Vec<Effect>,
    /// The request that the effects belong to.
    pub(crate) request: Option<&'a Request>,
    /// Who settles it otherwise if it is refused.
    pub(crate) standing: Standing<'a>,
}

/// Why something else is to be committed instead.
enum Otherwise {
    /// The server, or the end of the worker.
    Uncommitted(Uncommitted),
    /// The result has no form that can be stored.
    Unstorable(ExceptionInfo),
}

impl From<Uncommitted> for Otherwise {
    fn from(uncommitted: Uncommitted) -> Self {
        Self::Uncommitted(uncommitted)
    }
}

impl Runtime {
    /// Commits effects and settles a delivery; whether that was done, or given to the consumer, as it was asked for.
    ///
    /// Where broker and result backend can be written to in one step everything goes into one; else what messages rely on
    /// is prepared, they are published, then results stored, then the delivery is settled, each step repeated until it
    /// succeeds, is refused for good, or the worker ends.
    pub(crate) async fn commit(self: &Arc<Self>, commit: Commit<'_>) -> bool {
        let Commit { serial, disposition, effects, request, standing } = commit;
        if let Some(request) = request {
            self.outlast_retry(request, &effects).await;
        }
        let again =
            Commit { serial, disposition: disposition.clone(), effects: Vec::new(), request, standing };
        match self.try_commit(Commit { serial, disposition, effects, request, standing }).await {
            Ok(()) => true,
            Err(otherwise) => {
                Box::pin(self.commit_otherwise(again, otherwise)).await;
                false
            }
        }
    }

    async fn try_commit(self: &Arc<Self>, commit: Commit<'_>) -> Result<(), Otherwise> {
        let Commit { serial, disposition, effects, request, standing } = commit;
        let stands_in = standing.level > 0;
        let (first, others): (Vec<Effect>, Vec<Effect>) =
            effects.into_iter().partition(|effect| is_first(effect, request, stands_in));
        let Steps { prepare, publish, mut results, parts, revoked } =
            self.try_insist(|| self.app.steps(others.clone())).await?;
        self.store_first(&first, &mut results)?;
        self.revoke_all(&revoked);
        let came_back = request.filter(|request| serial.is_some() && request.redelivered());
        let forgetting = came_back.map(|request| self.forget_starts(request)).unwrap_or_default();
        let claims = self.claims(parts, request);
        if let Some(backend) = self.app.result_backend() {
            claims.iter().for_each(|claim| results.append(claim.returning(backend)));
        }
        let (owner, replaces) =
            (standing.context.map(|context| Owner::Opaque(context.opaque())), standing.replaces);
        if self.app.commits_together() {
            let batch = prepare.and(publish).and(forgetting).and(results);
            let (listener, answers) = match claims.is_empty() {
                true => (None, None),
                false => {
                    let (listener, answers) = oneshot::channel();
                    (Some(listener), Some(answers))
                }
            };
            self.settle(Settlement { serial, disposition, batch, answers: listener, owner, replaces });
            if let (Some(answers), Some(request)) = (answers, request) {
                let (runtime, request) = (Arc::clone(self), request.clone());
                self.life.background.spawn(async move {
                    // What is given up is settled by its owner.
                    if let Some(Ok(answers)) = runtime.carried_out(answers).await {
                        runtime.follow_claims(claims, answers, &request).await;
                    }
                });
            }
            return Ok(());
        }
        if let Some(backend) = self.app.result_backend() {
            self.store(backend, &prepare).await?;
        }
        fail_point!("commit.prepared");
        self.commit_once(publish).await?;
        fail_point!("commit.published");
        let mut answers = Answers::default();
        if let Some(backend) = self.app.result_backend() {
            answers = self.store(backend, &results).await?;
        }
        fail_point!("commit.stored");
        if let Some(request) = request {
            self.follow_claims(claims, answers, request).await;
        }
        fail_point!("commit.followed");
        self.settle(Settlement { serial, owner, replaces, ..Settlement::commit(disposition, forgetting) });
        Ok(())
    }

    /// Adds the writes of outcomes before which no success can be stored.
    fn store_first(&self, first: &[Effect], results: &mut Batch) -> Result<(), Otherwise> {
        let Some(backend) = self.app.result_backend() else { return Ok(()) };
        for effect in first {
            if let Effect::Store(meta) = effect {
                results.append(match meta.status {
                    TaskState::Success => backend.try_storing(meta, true).map_err(Otherwise::Unstorable)?,
                    _ => backend.storing(meta, true),
                });
            }
        }
        Ok(())
    }

    /// Goes on after something could not be committed.
    async fn commit_otherwise(self: &Arc<Self>, commit: Commit<'_>, otherwise: Otherwise) {
        let Commit { serial, disposition, request, standing, .. } = commit;
        let uncommitted = match (otherwise, standing.context) {
            (Otherwise::Unstorable(exception), Some(context)) => {
                return self.fail_run(serial, context, standing.replaces, exception).await;
            }
            (Otherwise::Unstorable(exception), None) => Refusal::unknown(exception.repr()).into(),
            (Otherwise::Uncommitted(uncommitted), Some(_)) => {
                return self.end_otherwise(serial, standing, uncommitted).await;
            }
            (Otherwise::Uncommitted(uncommitted), None) => uncommitted,
        };
        let task_id = request.map_or("", |request| &request.id);
        match uncommitted {
            Uncommitted::Refused { refusal, .. } => {
                log::error!(task_id, code = refusal.code(); "Nothing is stored of task {task_id}: {refusal}");
                self.settle(Settlement { serial, ..Settlement::commit(disposition, Batch::Empty) });
            }
            Uncommitted::Ending(refusal) => {
                log::error!(task_id; "Nothing is stored of task {task_id}, since the worker ends: {refusal}");
                if let Some(serial) = serial {
                    self.settle(Settlement::of(serial, Disposition::Restore));
                }
            }
        }
    }

    /// Stores what follows from a failure and returns its parts of chords, ahead of the errbacks that are called in this
    /// process; returns the effects that are left for the commit.
    ///
    /// A task that comes back after a crash does this again, which changes nothing.
    pub(super) async fn store_ahead(
        self: &Arc<Self>,
        effects: Vec<Effect>,
        request: &Request,
    ) -> Vec<Effect> {
        let Some(backend) = self.app.result_backend() else { return effects };
        let (ahead, left): (Vec<Effect>, Vec<Effect>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Store(_) | Effect::ChordPart(_)));
        self.outlast_retry(request, &ahead).await;
        let Steps { mut results, parts, .. } = self.insist(|| self.app.steps(ahead.clone())).await;
        let claims = self.claims(parts, Some(request));
        claims.iter().for_each(|claim| results.append(claim.returning(backend)));
        // In the order of what is committed: after STARTED.
        let committed = match self.app.commits_together() {
            true => self.commit_once(results.clone()).await.ok(),
            false => None,
        };
        let answers = match committed {
            Some(answers) => answers,
            None => self.insist(|| backend.carry_out(results.clone())).await,
        };
        if !claims.is_empty() {
            let (runtime, request) = (Arc::clone(self), request.clone());
            self.life.background.spawn(async move { runtime.follow_claims(claims, answers, &request).await });
        }
        left
    }

    /// Commits writes that belong to no delivery, without waiting.
    pub(crate) fn commit_alone(&self, batch: Batch) {
        self.settle(Settlement::commit(Disposition::Ack, batch));
    }

    /// Commits writes at the broker, once whatever becomes of the connection meanwhile.
    pub(super) async fn commit_once(&self, batch: Batch) -> Result<Answers, Uncommitted> {
        if batch.is_empty() {
            return Ok(Answers::default());
        }
        let (listener, answers) = oneshot::channel();
        self.settle(Settlement { answers: Some(listener), ..Settlement::commit(Disposition::Ack, batch) });
        match self.carried_out(answers).await {
            Some(outcome) => Ok(outcome?),
            None => Err(Uncommitted::Ending(Refusal::unknown("the broker does not answer".to_owned()))),
        }
    }

    /// Commits writes at the broker as [`Runtime::commit_once`], if `guard` allows it at that moment; whether it did, as
    /// far as that is known.
    ///
    /// # Errors
    /// Why the writes are given up: none behind the one that is refused was carried out.
    pub(super) async fn commit_if<const N: usize>(
        &self,
        guard: Batch,
        then: [Batch; N],
    ) -> Result<bool, Uncommitted> {
        let batch = self.app.broker().guarded(guard, then);
        Ok(self.commit_once(batch).await?.were_allowed())
    }

    /// The answers to writes that were given to the consumer, or why they were given up; nothing when the worker ends
    /// before. If the consumer has ended nothing may follow from them.
    async fn carried_out(
        &self,
        answers: oneshot::Receiver<Result<Answers, Refusal>>,
    ) -> Option<Result<Answers, Refusal>> {
        tokio::select! {
            biased;
            outcome = answers => match outcome {
                Ok(outcome) => Some(outcome),
                Err(_) => std::future::pending().await,
            },
            () = async { self.life.hurry.cancelled().await; sleep(LAST_ANSWER).await } => None,
        }
    }

    pub(super) fn revoke_all(&self, ids: &[String]) {
        if !ids.is_empty() {
            let mut revoked = lock(&self.state.revoked);
            ids.iter().for_each(|id| revoked.add(id.clone()));
        }
    }
}

/// Whether an effect stores how a request ended whatever is stored: that it succeeded, which was not delivered before, so
/// that no success can be stored yet; or that it failed since its success was refused, which may be stored in part.
fn is_first(effect: &Effect, request: Option<&Request>, stands_in: bool) -> bool {
    let (Effect::Store(meta), Some(request)) = (effect, request) else { return false };
    let is_first_success = !request.redelivered() && meta.status == TaskState::Success;
    meta.task_id == request.id && (is_first_success || stands_in)
}
