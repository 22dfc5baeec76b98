//! A handle on a result that may not be there yet.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{Celery, Error, Result};
use crate::backend::{Awaited, BackendError, ExceptionInfo, ResultRef, TaskMeta, TaskState};
use crate::message::{Value, from_value};

/// The result of a task, or of all tasks of a group.
///
/// Nothing is asked of the result backend until one of its methods is called.
#[derive(Clone, Debug)]
pub struct AsyncResult {
    app: Celery,
    handle: ResultRef,
}

impl AsyncResult {
    pub(crate) fn new(app: Celery, handle: ResultRef) -> Self {
        Self { app, handle }
    }

    pub(crate) fn of(app: &Celery, handle: ResultRef) -> Self {
        Self::new(app.clone(), handle)
    }

    /// Task id or group id.
    pub fn id(&self) -> &str {
        &self.handle.id
    }

    /// The result that this one follows in a chain.
    pub fn parent(&self) -> Option<AsyncResult> {
        self.handle.parent.as_deref().map(|parent| Self::new(self.app.clone(), parent.clone()))
    }

    /// The members, if this is a group.
    pub fn children(&self) -> Vec<AsyncResult> {
        let members = self.handle.children.iter().flatten();
        members.map(|child| Self::new(self.app.clone(), child.clone())).collect()
    }

    /// Whether this is a group.
    pub fn is_group(&self) -> bool {
        self.handle.children.is_some()
    }

    pub(super) fn app(&self) -> &Celery {
        &self.app
    }

    /// The ids by which others can find the result.
    pub fn handle(&self) -> &ResultRef {
        &self.handle
    }

    /// Everything that is stored; a pending record when nothing is.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// [`Error::NoBackend`] and those of the backend.
    pub async fn meta(&self) -> Result<TaskMeta> {
        let stored = self.app.backend()?.fetch(self.id()).await?;
        Ok(stored.unwrap_or_else(|| TaskMeta::new(self.id(), TaskState::Pending, Value::Null)))
    }

    /// The state; pending also for a task that nobody knows.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// The same as [`AsyncResult::meta`].
    pub async fn state(&self) -> Result<TaskState> {
        Ok(self.meta().await?.status)
    }

    /// Waits for the return value; a group gives the list of its members' values.
    ///
    /// Cancel safe: the result stays, and can be waited for again.
    ///
    /// # Errors
    /// [`Error::Task`] as soon as the task, or a member of the group, has failed or was revoked, [`Error::Timeout`] if not
    /// all are ready within `deadline`, and those of the backend.
    pub async fn get(&self, deadline: Duration) -> Result<Value> {
        let tasks = self.handle.tasks();
        let late = |place: usize| Error::Timeout { task_id: tasks[place].to_owned(), deadline };
        match self.app.backend()?.wait_all(&tasks, deadline).await {
            Ok(Awaited::Ready(metas)) => Ok(self.handle.arrange(metas.into_iter().map(|meta| meta.result))),
            Ok(Awaited::Failed(meta)) => Err(Error::Task {
                task_id: meta.task_id,
                state: meta.status,
                exception: Box::new(ExceptionInfo::from_value(&meta.result)),
                traceback: meta.traceback,
            }),
            Ok(Awaited::Missing(place)) => Err(late(place)),
            Err(BackendError::Timeout { .. }) => Err(late(0)),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`AsyncResult::get`], as a type of yours.
    ///
    /// Cancel safe: the result stays, and can be waited for again.
    ///
    /// # Errors
    /// The same as [`AsyncResult::get`], and [`Error::ResultType`].
    pub async fn get_as<T: DeserializeOwned>(&self, deadline: Duration) -> Result<T> {
        let value = self.get(deadline).await?;
        from_value(value)
            .map_err(|error| Error::ResultType { task_id: self.id().to_owned(), reason: error.to_string() })
    }

    /// Removes what is stored of the task, or of all members of the group.
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// [`Error::NoBackend`] and those of the backend.
    pub async fn forget(&self) -> Result<()> {
        let backend = self.app.backend()?;
        match &self.handle.children {
            Some(members) => {
                for member in members {
                    Box::pin(Self::new(self.app.clone(), member.clone()).forget()).await?;
                }
                Ok(backend.delete_group(self.id()).await?)
            }
            None => Ok(backend.forget(self.id()).await?),
        }
    }
}
