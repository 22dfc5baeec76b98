//! A result backend as a worker uses it.

use std::time::Duration;

use crate::app::Celery;
use crate::backend::{
    Awaited, Backend, BackendError, ChordPart, Freshness, GroupChange, PartAnswer, ResultRef, TaskMeta,
    TaskState,
};
use crate::broker::{Batch, Broker, BrokerError};
use crate::message::{Message, Value};

type Stored<T = ()> = Result<T, BackendError>;

/// A result backend as the worker sees it.
pub struct BackendSeam {
    backend: Backend,
    broker: Broker,
}

/// The answer to a part that was returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartTaken {
    /// True if it completed the chord, which is claimed now.
    pub claimed: bool,
    /// True if the number of parts is known.
    pub has_size: bool,
}

/// The outcome of waiting for some tasks.
#[derive(Clone, Debug, PartialEq)]
pub enum Waited {
    /// Their results.
    Ready(Vec<Value>),
    /// The id of the one that failed.
    Failed(String),
    /// The place of one that is missing.
    Missing(usize),
}

impl BackendSeam {
    /// That of an application.
    ///
    /// # Panics
    /// It has none.
    pub fn of(app: &Celery) -> Self {
        let Some(backend) = app.result_backend().cloned() else { panic!("no result backend") };
        Self { backend, broker: app.broker().clone() }
    }

    async fn write(&self, batch: Batch) -> Stored {
        self.backend.carry_out(batch).await.map(drop)
    }

    /// Carries out [`Backend::storing`].
    pub async fn store(&self, meta: &TaskMeta, fresh: bool) -> Stored {
        self.write(self.backend.storing(meta, fresh)).await
    }

    /// As [`Backend::fetch_many`].
    pub async fn fetch_many(&self, ids: &[&str]) -> Stored<Vec<Option<TaskMeta>>> {
        self.backend.fetch_many(ids).await?.into_iter().collect()
    }

    /// As [`Backend::wait_all`].
    pub async fn wait_all(&self, ids: &[&str], timeout: Duration) -> Stored<Waited> {
        Ok(match self.backend.wait_all(ids, timeout).await? {
            Awaited::Ready(metas) => Waited::Ready(metas.into_iter().map(|meta| meta.result).collect()),
            Awaited::Failed(meta) => Waited::Failed(meta.task_id),
            Awaited::Missing(place) => Waited::Missing(place),
        })
    }

    /// Saves a group.
    pub async fn save_group(&self, group: &ResultRef) -> Stored {
        self.write(self.backend.saving_group(group)).await
    }

    /// Sets the size of a chord.
    pub async fn size(&self, group_id: &str, size: usize) -> Stored {
        self.write(self.backend.changing(&GroupChange::Size { group_id: group_id.to_owned(), size })).await
    }

    /// Adds parts to a chord.
    pub async fn grow(&self, group_id: &str, by: usize) -> Stored {
        self.write(self.backend.changing(&GroupChange::Grow { group_id: group_id.to_owned(), by })).await
    }

    /// Fails a chord.
    pub async fn fail(&self, group_id: &str) -> Stored {
        self.write(self.backend.changing(&GroupChange::Failed { group_id: group_id.to_owned() })).await
    }

    /// Returns a part of which it is known whether it was delivered before.
    pub async fn part(
        &self,
        part: &ChordPart,
        token: &str,
        completing: &[u8],
        redelivered: bool,
    ) -> Stored<PartTaken> {
        let freshness = if redelivered { Freshness::Redelivered } else { Freshness::Fresh };
        self.returned(part, token, completing, freshness).await
    }

    /// Returns a part whose message was held for so long that another worker may have taken it.
    pub async fn stale_part(&self, part: &ChordPart, token: &str, completing: &[u8]) -> Stored<PartTaken> {
        self.returned(part, token, completing, Freshness::Stale).await
    }

    async fn returned(
        &self,
        part: &ChordPart,
        token: &str,
        completing: &[u8],
        freshness: Freshness,
    ) -> Stored<PartTaken> {
        let returning = self.backend.returning(part, token, completing, freshness);
        let answers = self.backend.carry_out(returning).await?;
        let answer = self.backend.part_answers(answers, 1).pop().flatten().unwrap_or(PartAnswer::UNKNOWN);
        Ok(PartTaken { claimed: answer.claimed, has_size: answer.has_size })
    }

    /// The parts that returned: ids, states and results.
    pub async fn parts(&self, group_id: &str) -> Stored<Vec<(String, TaskState, Value)>> {
        let parts = self.backend.returned_parts(group_id).await?;
        Ok(parts.into_iter().map(|part| (part.task_id, part.state, part.result)).collect())
    }

    /// As [`Backend::extend_claim`].
    pub async fn extend_claim(&self, group_id: &str, token: &str) -> Stored<bool> {
        self.backend.extend_claim(group_id, token).await
    }

    /// Ends a chord whose body is sent.
    pub async fn end(&self, group_id: &str, token: &str) -> Stored {
        self.write(self.backend.ending_chord(group_id, token)).await
    }

    /// Ends a chord and publishes its body, if the claim is still that of the token; only where both are joined.
    pub async fn end_and_publish(
        &self,
        group_id: &str,
        token: &str,
        body: &[Message],
    ) -> Result<bool, BrokerError> {
        let guard = self.backend.keeping_claim(group_id, token);
        let then = self.broker.publications(body).await?.and(self.backend.ending_chord(group_id, token));
        Ok(self.broker.carry_out(self.broker.guarded(guard, [then])).await?.were_allowed())
    }

    /// As [`Backend::overdue_chords`].
    pub async fn overdue(&self) -> Stored<Vec<String>> {
        self.backend.overdue_chords().await
    }

    /// As [`Backend::unsent_chords`].
    pub async fn unsent(&self) -> Stored<u64> {
        self.backend.unsent_chords().await
    }

    /// As [`Backend::put_off_chord`].
    pub async fn put_off(&self, group_id: &str) -> Stored {
        self.backend.put_off_chord(group_id).await
    }

    /// As [`Backend::reclaim_chord`]: what completed it, and whether its size is gone.
    pub async fn reclaim(&self, group_id: &str, token: &str) -> Stored<Option<(Vec<u8>, bool)>> {
        let reclaimed = self.backend.reclaim_chord(group_id, token).await?;
        Ok(reclaimed.map(|reclaimed| (reclaimed.completing, reclaimed.is_gone)))
    }

    /// As [`Backend::renew_chords`].
    pub async fn renew(&self, group_id: &str) -> Stored {
        self.backend.renew_chords(&[group_id.to_owned()]).await
    }
}
