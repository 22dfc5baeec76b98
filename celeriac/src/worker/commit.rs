//! Committing what a completed run asks for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::Cmd;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::chords::Claim;
use super::errbacks::{Called, Failed};
use super::runtime::Runtime;
use super::state::lock;
use crate::app::Lowered;
use crate::backend::redis::{Parts, RedisBackend};
use crate::backend::{ChordPart, ExceptionInfo, TaskState};
use crate::backoff::Backoff;
use crate::broker::BrokerError;
use crate::broker::redis::{Disposition, Settlement, guarded};
use crate::canvas::{self, Effect, Outbox};
use crate::failpoints::fail_point;
use crate::message::Signature;
use crate::task::Request;

/// How long it is remembered that the body of a chord was sent, where broker and results are apart.
const MARK_SECONDS: u64 = 3600;
/// How often the claim of a chord is kept while errbacks of its body run: it lasts several times as long.
const KEEP_CLAIM_EVERY: Duration = Duration::from_secs(5);

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
    fn finish_boxed<'a>(
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
    async fn commit_if(&self, guard: &Cmd, commands: &[Cmd]) -> Result<bool, String> {
        let replies = self.commit_once(vec![guarded(guard, commands)]).await;
        match replies.first() {
            Some(redis::Value::ServerError(error)) => Err(error.to_string()),
            reply => Ok(reply != Some(&redis::Value::Int(0))),
        }
    }

    /// The command that marks the body of a chord as sent, unless it is marked already: the claim, which is in another
    /// database, may have ended while the broker was away.
    fn mark_sent(&self, group_id: &str, request: &Request) -> Cmd {
        let key = self.app.queues().keys().sent(group_id, &request.properties.delivery_tag);
        let mut mark = redis::cmd("SET");
        mark.arg(key).arg(1).arg("NX").arg("EX").arg(MARK_SECONDS);
        mark
    }

    /// Repeats a call until it succeeds or fails for good.
    async fn insist<T: Default, F: Future<Output = Result<T, BrokerError>>>(
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

    /// Goes on with the chords that the parts just returned have completed.
    async fn follow_claims(
        self: &Arc<Self>,
        claims: Vec<Claim>,
        replies: Vec<redis::Value>,
        request: &Request,
    ) {
        let Some(backend) = self.app.redis_backend() else { return };
        let offset = replies.len().saturating_sub(claims.len());
        for (index, claim) in claims.iter().enumerate() {
            let reply = match replies.get(offset + index) {
                Some(reply) => reply.clone(),
                // The reply was lost; counting a part again changes nothing.
                None => {
                    let command = || vec![claim.command(backend)];
                    self.insist(|| backend.run(command())).await.into_iter().next().unwrap_or_default()
                }
            };
            if RedisBackend::part_answer(&reply).claimed {
                fail_point!("chord.claimed");
                self.complete_chord(backend, claim, request).await;
            }
        }
    }

    /// Sends the body of a chord that is claimed.
    pub(super) async fn complete_chord(
        self: &Arc<Self>,
        backend: &RedisBackend,
        claim: &Claim,
        request: &Request,
    ) {
        let part = &claim.part;
        let parts = match self.insist(|| async { self.chord_results(backend, part).await.map(Some) }).await {
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
        if !self.insist(|| backend.extend_claim(&part.group_id, &claim.token)).await {
            log::warn!(group_id = part.group_id.as_str(); "The body of chord {} is sent by another worker", part.group_id);
            return;
        }
        fail_point!("chord.extended");
        let mut outbox = Outbox::new();
        let sent = self.app.with_sender(Some(request), |sender| {
            canvas::chord_ready(&part.body, parts, request, sender, &mut outbox)
        });
        if let Err(error) = sent {
            let exception = ExceptionInfo::celery("ChordError", format!("Callback error: {error}"));
            return self.fail_chord(claim, &exception, &exception, request).await;
        }
        let Lowered { prepare, publish, results, .. } =
            self.insist(|| self.app.lower(outbox.effects.clone())).await;
        let results = [prepare, results].concat();
        let clean = backend.chord_clean_command(&part.group_id, &claim.token);
        let is_sent = if self.app.is_one_database() {
            let keep = backend.extend_claim_command(&part.group_id, &claim.token);
            self.commit_if(&keep, &[results, publish, vec![clean]].concat()).await
        } else {
            self.insist(|| backend.run(results.clone())).await;
            fail_point!("chord.prepared");
            let is_first = self.mark_sent(&part.group_id, request);
            let is_sent = self.commit_if(&is_first, &publish).await;
            fail_point!("chord.published");
            if is_sent.is_ok() {
                self.insist(|| backend.run(vec![clean.clone()])).await;
            }
            is_sent
        };
        match is_sent {
            Ok(true) => {}
            Ok(false) => {
                log::warn!(group_id = part.group_id.as_str(); "The body of chord {} was sent by another worker", part.group_id);
            }
            // The chord stays registered: whoever looks after the claim has ended goes on with it.
            Err(reason) => {
                log::error!(group_id = part.group_id.as_str(), error = reason.as_str(); "The body of chord {} is not sent yet: {reason}", part.group_id);
            }
        }
        fail_point!("chord.sent");
    }

    /// The results of a chord's header: by the saved shape if its header held groups, else in the order of its parts.
    async fn chord_results(&self, backend: &RedisBackend, part: &ChordPart) -> Result<Parts, BrokerError> {
        let joined = async {
            match backend.restore_group(&part.group_id).await? {
                Some(group) => super::chords::join(backend, &group).await,
                None => backend.chord_parts(&part.group_id).await,
            }
        };
        match joined.await {
            // It will not be readable later either.
            Err(BrokerError::Protocol(error)) => {
                let error =
                    ExceptionInfo::new("kombu.exceptions", "DecodeError", vec![error.to_string().into()]);
                Ok(Parts::Unjoined { exception: error.to_value() })
            }
            joined => joined,
        }
    }

    async fn fail_chord(
        self: &Arc<Self>,
        claim: &Claim,
        exception: &ExceptionInfo,
        cause: &ExceptionInfo,
        request: &Request,
    ) {
        let part = &claim.part;
        log::error!(group_id = part.group_id.as_str(), error = exception.repr().as_str(); "Chord {} raised: {}", part.group_id, exception.repr());
        let mut outbox = Outbox::new();
        let style = |errback: &Signature| self.errback_style(errback);
        let in_process = self.app.with_sender(Some(request), |sender| {
            canvas::chord_error(&part.body, exception, cause, request, &style, sender, &mut outbox)
        });
        let errbacks = in_process.unwrap_or_else(|error| {
            log::error!(error:% = error; "The body of chord {} cannot be failed: {error}", part.group_id);
            Vec::new()
        });
        // Failing the body may complete an outer chord: its parts are returned as those of any task.
        outbox.effects.push(Effect::ChordFailed { group_id: part.group_id.clone() });
        if errbacks.is_empty() {
            return self.finish_boxed(outbox.effects, request).await;
        }
        // However long they take, whoever is here goes on; the chord is registered until they are done.
        let (runtime, claim, request) = (Arc::clone(self), claim.clone(), request.clone());
        let effects = outbox.effects;
        self.background.spawn(async move {
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
        let keep = || self.insist(|| backend.extend_claim(&claim.part.group_id, &claim.token));
        if !keep().await {
            return false;
        }
        let lost = async {
            loop {
                tokio::time::sleep(KEEP_CLAIM_EVERY).await;
                if !keep().await {
                    return;
                }
            }
        };
        let definition = self.registry.get(request.task.as_str());
        let limits = self.limits(request, definition.map(|known| &**known), CancellationToken::new());
        tokio::select! {
            biased;
            called = self.call_errbacks(errbacks, request, limits) => called == Called::Done,
            () = lost => false,
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
