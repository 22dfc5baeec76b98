//! Committing what a completed run asks for.

use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::chords::Claim;
use super::insist::Uncommitted;
use super::refused::Standing;
use super::runtime::Runtime;
use crate::app::Lowered;
use crate::backend::{ExceptionInfo, TaskState};
use crate::broker::redis::{Disposition, Settlement, guarded};
use crate::broker::refusal::Refusal;
use crate::canvas::Effect;
use crate::failpoints::fail_point;
use crate::node::lock;
use crate::task::Request;

/// How long the broker's reply is waited for when the worker is in a hurry to end.
const LAST_REPLY: Duration = Duration::from_secs(3);

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
    /// Commits effects and settles a delivery, for a run that fails when the server refuses what it comes to; whether it was
    /// committed, or given to the consumer, as it was asked for.
    ///
    /// Where broker and results share a database everything goes into one transaction; else what messages rely on is
    /// prepared, they are published, then results stored, then the delivery is settled, each step repeated until it
    /// succeeds, is refused for good, or the worker ends.
    pub(crate) async fn finish_as(
        self: &Arc<Self>,
        serial: Option<u64>,
        disposition: Disposition,
        effects: Vec<Effect>,
        request: Option<&Request>,
        standing: Standing<'_>,
    ) -> bool {
        if let Some(request) = request {
            self.outlast_retry(request, &effects).await;
        }
        match self.commit_as(serial, disposition.clone(), effects, request, standing).await {
            Ok(()) => return true,
            Err(otherwise) => {
                Box::pin(self.commit_otherwise(serial, disposition, request, standing, otherwise)).await
            }
        }
        false
    }

    async fn commit_as(
        self: &Arc<Self>,
        serial: Option<u64>,
        disposition: Disposition,
        effects: Vec<Effect>,
        request: Option<&Request>,
        standing: Standing<'_>,
    ) -> Result<(), Otherwise> {
        let stands_in = standing.level > 0;
        let (first, others): (Vec<Effect>, Vec<Effect>) =
            effects.into_iter().partition(|effect| is_first(effect, request, stands_in));
        let Lowered { prepare, publish, mut results, parts, revoked } =
            self.try_insist(|| self.app.lower(others.clone())).await?;
        if let Some(backend) = self.app.redis_backend() {
            for effect in &first {
                if let Effect::Store(meta) = effect {
                    results.extend(match meta.status {
                        TaskState::Success => {
                            backend.try_store_commands(meta, true).map_err(Otherwise::Unstorable)?
                        }
                        _ => backend.store_commands(meta, true),
                    });
                }
            }
        }
        self.revoke_all(&revoked);
        let came_back = request.filter(|request| serial.is_some() && request.redelivered());
        let forgetting: Vec<Cmd> = came_back.map(|request| self.forget_starts(request)).into_iter().collect();
        let claims: Vec<Claim> = parts.into_iter().map(|part| Claim::new(part, request)).collect();
        if let Some(backend) = self.app.redis_backend() {
            results.extend(claims.iter().map(|claim| claim.command(backend)));
        }
        let (owner, replaces) = (standing.context.map(|context| context.opaque()), standing.replaces);
        if self.app.is_one_database() {
            let commands = [forgetting, prepare, publish, results].concat();
            let replies = (!claims.is_empty()).then(oneshot::channel);
            let (sender, receiver) =
                replies.map_or((None, None), |(sender, receiver)| (Some(sender), Some(receiver)));
            self.settle(Settlement { serial, disposition, commands, replies: sender, owner, replaces });
            if let (Some(receiver), Some(request)) = (receiver, request) {
                let (runtime, request) = (Arc::clone(self), request.clone());
                self.background.spawn(async move {
                    // What is given up is settled by its owner.
                    if let Some(Ok(replies)) = runtime.carried_out(receiver).await {
                        runtime.follow_claims(claims, replies, &request).await;
                    }
                });
            }
            return Ok(());
        }
        if let Some(backend) = self.app.redis_backend() {
            self.store(backend, &prepare).await?;
        }
        fail_point!("commit.prepared");
        self.commit_once(publish).await?;
        fail_point!("commit.published");
        let mut replies = Vec::new();
        if let Some(backend) = self.app.redis_backend() {
            replies = self.store(backend, &results).await?;
        }
        fail_point!("commit.stored");
        if let Some(request) = request {
            self.follow_claims(claims, replies, request).await;
        }
        fail_point!("commit.followed");
        self.settle(Settlement { serial, owner, replaces, ..Settlement::commit(disposition, forgetting) });
        Ok(())
    }

    /// Goes on after something could not be committed.
    async fn commit_otherwise(
        self: &Arc<Self>,
        serial: Option<u64>,
        disposition: Disposition,
        request: Option<&Request>,
        standing: Standing<'_>,
        otherwise: Otherwise,
    ) {
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
                self.settle(Settlement { serial, ..Settlement::commit(disposition, Vec::new()) });
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
        let Some(backend) = self.app.redis_backend() else { return effects };
        let (ahead, left): (Vec<Effect>, Vec<Effect>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Store(_) | Effect::ChordPart(_)));
        self.outlast_retry(request, &ahead).await;
        let Lowered { mut results, parts, .. } = self.insist(|| self.app.lower(ahead.clone())).await;
        let claims: Vec<Claim> = parts.into_iter().map(|part| Claim::new(part, Some(request))).collect();
        results.extend(claims.iter().map(|claim| claim.command(backend)));
        // In the order of what is committed: after STARTED.
        let committed = match self.app.is_one_database() {
            true => self.commit_once(results.clone()).await.ok(),
            false => None,
        };
        let replies = match committed {
            Some(replies) => replies,
            None => self.insist(|| backend.run(results.clone())).await,
        };
        if !claims.is_empty() {
            let (runtime, request) = (Arc::clone(self), request.clone());
            self.background.spawn(async move { runtime.follow_claims(claims, replies, &request).await });
        }
        left
    }

    /// Commits commands that belong to no delivery.
    pub(crate) fn commit_alone(&self, commands: Vec<Cmd>) {
        self.settle(Settlement::commit(Disposition::Ack, commands));
    }

    /// Commits commands to the broker's database, once whatever becomes of the connection meanwhile.
    pub(super) async fn commit_once(&self, commands: Vec<Cmd>) -> Result<Vec<redis::Value>, Uncommitted> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let (replies, committed) = oneshot::channel();
        self.settle(Settlement { replies: Some(replies), ..Settlement::commit(Disposition::Ack, commands) });
        match self.carried_out(committed).await {
            Some(outcome) => Ok(outcome?),
            None => Err(Uncommitted::Ending(Refusal::unknown("the broker does not answer".to_owned()))),
        }
    }

    /// Commits commands to the broker's database as [`Runtime::commit_once`], if the reply to `guard` allows it at that
    /// moment; whether it did, as far as that is known.
    ///
    /// # Errors
    /// Why the commands are given up: none behind the one that is refused was carried out.
    pub(super) async fn commit_if(&self, guard: &Cmd, commands: &[Cmd]) -> Result<bool, Uncommitted> {
        let replies = self.commit_once(vec![guarded(guard, commands)]).await?;
        Ok(replies.first() != Some(&redis::Value::Int(0)))
    }

    /// The replies to commands that were given to the consumer, none when they were lost on the way, or why they were
    /// given up; nothing when the worker ends before. If the consumer has ended nothing may follow from them.
    async fn carried_out(
        &self,
        committed: oneshot::Receiver<Result<Vec<redis::Value>, Refusal>>,
    ) -> Option<Result<Vec<redis::Value>, Refusal>> {
        tokio::select! {
            biased;
            outcome = committed => match outcome {
                Ok(outcome) => Some(outcome),
                Err(_) => std::future::pending().await,
            },
            () = async { self.hurry.cancelled().await; sleep(LAST_REPLY).await } => None,
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
