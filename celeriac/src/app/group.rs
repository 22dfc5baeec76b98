//! What can be done with the results of a group: waiting for them as they come, counting, revoking, keeping.
//!
//! Source of names: celery 5.7 `GroupResult` in `celery/result.py`.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, Stream, StreamExt};

use super::{AsyncResult, Celery, Result};
use crate::backend::{TaskMeta, TaskState};
use crate::message::Value;

impl AsyncResult {
    /// Whether the task, or each member of the group, has ended.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// The same as [`AsyncResult::meta`].
    pub async fn is_ready(&self) -> Result<bool> {
        Ok(self.states().await?.iter().all(TaskState::is_ready))
    }

    /// Whether the task, or each member of the group, has succeeded.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// The same as [`AsyncResult::meta`].
    pub async fn is_successful(&self) -> Result<bool> {
        Ok(self.states().await?.iter().all(|state| *state == TaskState::Success))
    }

    /// Whether the task, or any member of the group, has failed; one that was revoked has not.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// The same as [`AsyncResult::meta`].
    pub async fn is_failed(&self) -> Result<bool> {
        Ok(self.states().await?.contains(&TaskState::Failure))
    }

    /// How many members of the group have succeeded.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// The same as [`AsyncResult::meta`].
    pub async fn completed_count(&self) -> Result<usize> {
        Ok(self.states().await?.iter().filter(|state| **state == TaskState::Success).count())
    }

    /// The members of the group with what they return, each as soon as it is there; of a task itself. A member that is not
    /// ready within `deadline` gives [`Error::Timeout`](super::Error::Timeout).
    ///
    /// ```no_run
    /// # use celeriac::prelude::*;
    /// # async fn example(group: AsyncResult) {
    /// use futures_util::StreamExt;
    ///
    /// let mut results = group.iterate(std::time::Duration::from_secs(60));
    /// while let Some((member, value)) = results.next().await {
    ///     println!("{}: {value:?}", member.id());
    /// }
    /// # }
    /// ```
    pub fn iterate(&self, deadline: Duration) -> impl Stream<Item = (AsyncResult, Result<Value>)> + use<> {
        let members = if self.is_group() { self.children() } else { vec![self.clone()] };
        let wait = |member: AsyncResult| async move {
            let value = member.get(deadline).await;
            (member, value)
        };
        members.into_iter().map(wait).collect::<FuturesUnordered<_>>().fuse()
    }

    /// Tells all workers not to run the task, or the members of the group; one that runs already goes on.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn revoke(&self) -> Result<()> {
        Ok(self.app().control().revoke(self.handle().tasks()).await?)
    }

    /// Keeps the shape of the group under its id, for [`Celery::restore_group`] in another program.
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// [`Error::NoBackend`](super::Error::NoBackend) and those of the backend.
    pub async fn save(&self) -> Result<()> {
        let backend = self.app().backend()?;
        backend.carry_out(backend.saving_group(self.handle())).await?;
        Ok(())
    }

    async fn states(&self) -> Result<Vec<TaskState>> {
        let metas = self.app().backend()?.fetch_many(&self.handle().tasks()).await?;
        let state = |meta: Option<TaskMeta>| meta.map_or(TaskState::Pending, |meta| meta.status);
        metas.into_iter().map(|meta| Ok(meta.map(state)?)).collect()
    }
}

impl Celery {
    /// The results of a group that was saved, here or by Python's `GroupResult.save`; `None` when there is none.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// [`Error::NoBackend`](super::Error::NoBackend) and those of the backend.
    pub async fn restore_group(&self, group_id: &str) -> Result<Option<AsyncResult>> {
        let saved = self.backend()?.restore_group(group_id).await?;
        Ok(saved.map(|handle| AsyncResult::of(self, handle)))
    }
}
