//! Committing what a completed run asks for.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use redis::Cmd;
use tokio::sync::oneshot;

use super::chords::Claim;
use super::runtime::Runtime;
use super::state::lock;
use crate::app::Lowered;
use crate::backend::TaskState;
use crate::backoff::Backoff;
use crate::broker::BrokerError;
use crate::broker::redis::{Disposition, Settlement, guarded};
use crate::canvas::Effect;
use crate::failpoints::fail_point;
use crate::task::Request;

impl Runtime {
    /// Commits effects and settles a delivery.
    pub(crate) async fn finish(
        self: &Arc<Self>,
        serial: Option<u64>,
        disposition: Disposition,
        effects: Vec<Effect>,
    ) {
        self.finish_for(serial, disposition, effects, None).await;
    }

    /// As [`Runtime::finish`], for the request that the effects belong to.
    ///
    /// Where broker and results share a database everything goes into one transaction; else what messages rely on is
    /// prepared, they are published, then results stored, then the delivery is settled, each step repeated until it
    /// succeeds.
    pub(crate) async fn finish_for(
        self: &Arc<Self>,
        serial: Option<u64>,
        disposition: Disposition,
        effects: Vec<Effect>,
        request: Option<&Request>,
    ) {
        if let Some(request) = request {
            self.outlast_retry(request, &effects).await;
        }
        let (first, others): (Vec<Effect>, Vec<Effect>) =
            effects.into_iter().partition(|effect| is_first_success(effect, request));
        let Lowered { prepare, publish, mut results, parts, revoked } =
            self.insist(|| self.app.lower(others.clone())).await;
        self.revoke_all(&revoked);
        if let Some(backend) = self.app.redis_backend() {
            for effect in &first {
                if let Effect::Store(meta) = effect {
                    results.extend(backend.store_commands(meta, true));
                }
            }
        }
        let came_back = request.filter(|request| serial.is_some() && request.redelivered());
        let forgetting: Vec<Cmd> = came_back.map(|request| self.forget_starts(request)).into_iter().collect();
        let claims: Vec<Claim> = parts.into_iter().map(|part| Claim::new(part, request)).collect();
        if let Some(backend) = self.app.redis_backend() {
            results.extend(claims.iter().map(|claim| claim.command(backend)));
        }
        if self.app.is_one_database() {
            let commands = [forgetting, prepare, publish, results].concat();
            let replies = (!claims.is_empty()).then(oneshot::channel);
            let (sender, receiver) =
                replies.map_or((None, None), |(sender, receiver)| (Some(sender), Some(receiver)));
            self.settle(Settlement { serial, disposition, commands, replies: sender });
            if let (Some(receiver), Some(request)) = (receiver, request) {
                let (runtime, request) = (Arc::clone(self), request.clone());
                self.background.spawn(async move {
                    let replies = carried_out(receiver).await;
                    runtime.follow_claims(claims, replies, &request).await;
                });
            }
            return;
        }
        if let Some(backend) = self.app.redis_backend() {
            self.insist(|| backend.run(prepare.clone())).await;
        }
        fail_point!("commit.prepared");
        self.commit_once(publish).await;
        fail_point!("commit.published");
        let mut replies = Vec::new();
        if let Some(backend) = self.app.redis_backend() {
            replies = self.insist(|| backend.run(results.clone())).await;
        }
        fail_point!("commit.stored");
        if let Some(request) = request {
            self.follow_claims(claims, replies, request).await;
        }
        fail_point!("commit.followed");
        self.settle(Settlement { serial, disposition, commands: forgetting, replies: None });
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
        let replies = self.insist(|| backend.run(results.clone())).await;
        if !claims.is_empty() {
            let (runtime, request) = (Arc::clone(self), request.clone());
            self.background.spawn(async move { runtime.follow_claims(claims, replies, &request).await });
        }
        left
    }

    /// As [`Runtime::finish_for`] without a delivery; boxed, since a chord's end may end the chord around it.
    pub(super) fn finish_boxed<'a>(
        self: &'a Arc<Self>,
        effects: Vec<Effect>,
        request: &'a Request,
    ) -> BoxFuture<'a, ()> {
        Box::pin(self.finish_for(None, Disposition::Ack, effects, Some(request)))
    }

    /// Commits commands that belong to no delivery.
    pub(crate) fn commit_alone(&self, commands: Vec<Cmd>) {
        self.settle(Settlement { serial: None, disposition: Disposition::Ack, commands, replies: None });
    }

    /// Commits commands to the broker's database, once whatever becomes of the connection meanwhile.
    async fn commit_once(&self, commands: Vec<Cmd>) -> Vec<redis::Value> {
        if commands.is_empty() {
            return Vec::new();
        }
        let (replies, committed) = oneshot::channel();
        let disposition = Disposition::Ack;
        self.settle(Settlement { serial: None, disposition, commands, replies: Some(replies) });
        carried_out(committed).await
    }

    /// Commits commands to the broker's database as [`Runtime::commit_once`], if the reply to `guard` allows it at that
    /// moment; whether it did, as far as that is known, or why the server carried out nothing.
    pub(super) async fn commit_if(&self, guard: &Cmd, commands: &[Cmd]) -> Result<bool, String> {
        let replies = self.commit_once(vec![guarded(guard, commands)]).await;
        match replies.first() {
            Some(redis::Value::ServerError(error)) => Err(error.to_string()),
            reply => Ok(reply != Some(&redis::Value::Int(0))),
        }
    }

    /// Repeats a call until it succeeds or fails for good.
    pub(super) async fn insist<T: Default, F: Future<Output = Result<T, BrokerError>>>(
        &self,
        call: impl Fn() -> F,
    ) -> T {
        let mut backoff = Backoff::default();
        loop {
            match call().await {
                Ok(value) => return value,
                Err(error) if error.is_retryable() => {
                    log::warn!(error:% = error; "Cannot commit yet: {error}");
                    tokio::time::sleep(backoff.next()).await;
                }
                Err(error) => {
                    log::error!(error:% = error; "Cannot commit: {error}");
                    return T::default();
                }
            }
        }
    }

    fn revoke_all(&self, ids: &[String]) {
        if !ids.is_empty() {
            let mut revoked = lock(&self.state.revoked);
            ids.iter().for_each(|id| revoked.add(id.clone()));
        }
    }
}

/// Whether an effect stores that a request succeeded which was not delivered before: no success can be stored yet.
fn is_first_success(effect: &Effect, request: Option<&Request>) -> bool {
    let (Effect::Store(meta), Some(request)) = (effect, request) else { return false };
    !request.redelivered() && meta.task_id == request.id && meta.status == TaskState::Success
}

/// The replies to commands that were given to the consumer, none when they were lost on the way. If the consumer ends
/// without having them carried out the worker ends too, and nothing may follow from them.
async fn carried_out(committed: oneshot::Receiver<Vec<redis::Value>>) -> Vec<redis::Value> {
    match committed.await {
        Ok(replies) => replies,
        Err(_) => std::future::pending().await,
    }
}
