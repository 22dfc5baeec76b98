//! Reading what is stored of tasks, and waiting for it.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::{Pipeline, Value as Reply};

use super::RedisBackend;
use crate::backend::{Awaited, BackendError, TaskMeta, TaskState};
use crate::backoff::Backoff;

/// Most records that one command reads.
const BATCH: usize = 500;

impl RedisBackend {
    /// What is stored of a task; `None` when nothing is.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// [`BackendError`] when the server cannot be reached or refuses the command, [`BackendError::Unreadable`] when the record cannot be read.
    pub async fn fetch(&self, task_id: &str) -> Result<Option<TaskMeta>, BackendError> {
        let replies = self.link.call(Pipeline::new().cmd("GET").arg(self.task_key(task_id))).await?;
        self.read(task_id, &replies[0])
    }

    /// What is stored of some tasks, in their order; an error for a record that cannot be read.
    ///
    /// # Errors
    /// [`BackendError`] when the server cannot be reached or refuses the command.
    pub(crate) async fn fetch_many(
        &self,
        task_ids: &[impl AsRef<str>],
    ) -> Result<Vec<Result<Option<TaskMeta>, BackendError>>, BackendError> {
        let mut metas = Vec::with_capacity(task_ids.len());
        for task_ids in task_ids.chunks(BATCH) {
            let keys: Vec<String> = task_ids.iter().map(|task_id| self.task_key(task_id.as_ref())).collect();
            let replies = self.link.call(Pipeline::new().cmd("MGET").arg(keys)).await?;
            let Some(Reply::Array(records)) = replies.first() else { continue };
            metas.extend(task_ids.iter().zip(records).map(|(id, record)| self.read(id.as_ref(), record)));
        }
        Ok(metas)
    }

    fn read(&self, task_id: &str, record: &Reply) -> Result<Option<TaskMeta>, BackendError> {
        match record {
            Reply::BulkString(stored) => {
                let record = self.records.encoding.decode(stored);
                let meta = record.and_then(|record| TaskMeta::from_value(task_id, record));
                meta.map(Some).map_err(BackendError::unreadable(task_id))
            }
            _ => Ok(None),
        }
    }

    /// Waits until a task is ready; subscribed, not polled. A server that is away meanwhile is waited for.
    ///
    /// Cancel safe: the result stays, and can be waited for again.
    ///
    /// # Errors
    /// [`BackendError::Timeout`] after `deadline`, or the reason why the server could not be asked then, and
    /// [`BackendError::Unreadable`] when a record cannot be read.
    pub async fn wait(&self, task_id: &str, deadline: Duration) -> Result<TaskMeta, BackendError> {
        let late = || BackendError::Timeout { url: self.endpoint().to_string(), deadline };
        match self.wait_all(&[task_id], deadline).await {
            Ok(Awaited::Ready(metas)) => metas.into_iter().next().ok_or_else(late),
            Ok(Awaited::Failed(meta)) => Ok(*meta),
            Ok(Awaited::Missing(_)) | Err(BackendError::Timeout { .. }) => Err(late()),
            Err(error) => Err(error),
        }
    }

    /// Waits until all of these tasks have succeeded or one has not; subscribed to those that are missing, not polled. A
    /// server that is away meanwhile is waited for.
    ///
    /// # Errors
    /// Why the server could not be asked when `deadline` was over; and those of [`RedisBackend::fetch`].
    pub(crate) async fn wait_all(
        &self,
        task_ids: &[&str],
        deadline: Duration,
    ) -> Result<Awaited, BackendError> {
        let mut metas: Vec<Option<TaskMeta>> = vec![None; task_ids.len()];
        let mut missing: BTreeSet<usize> = (0..task_ids.len()).collect();
        let mut trouble = None;
        let waiting = async {
            let (mut watched, mut waiter) = (Vec::new(), None);
            let mut unread: Vec<usize> = missing.iter().copied().collect();
            let mut backoff = Backoff::default();
            loop {
                let asked: Vec<&str> = unread.iter().map(|place| task_ids[*place]).collect();
                match self.fetch_many(&asked).await {
                    Ok(found) => {
                        trouble = None;
                        backoff.reset();
                        for (place, meta) in unread.drain(..).zip(found) {
                            match meta? {
                                Some(meta) if meta.status == TaskState::Success => {
                                    metas[place] = Some(meta);
                                    missing.remove(&place);
                                }
                                Some(meta) if meta.status.is_ready() => return Ok(Some(meta)),
                                _ => {}
                            }
                        }
                    }
                    Err(error) if error.is_retryable() => {
                        log::debug!(error:% = error; "Results are waited for although {error}");
                        trouble = Some(error);
                        tokio::time::sleep(backoff.next()).await;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                if missing.is_empty() {
                    return Ok(None);
                }
                let Some(waiter) = &mut waiter else {
                    watched.extend(missing.iter().copied());
                    unread.clone_from(&watched);
                    let channels = watched.iter().map(|place| self.task_key(task_ids[*place])).collect();
                    waiter = Some(self.waiters.watch(channels).await);
                    continue;
                };
                let changed = waiter.changed().await.into_iter().map(|place| watched[place]);
                unread.extend(changed.filter(|place| missing.contains(place)));
            }
        };
        match tokio::time::timeout(deadline, waiting).await {
            Ok(Ok(Some(failed))) => Ok(Awaited::Failed(Box::new(failed))),
            Ok(Ok(None)) => Ok(Awaited::Ready(metas.into_iter().flatten().collect())),
            Ok(Err(error)) => Err(error),
            Err(_) => match trouble {
                Some(error) => Err(error),
                None => Ok(Awaited::Missing(missing.first().copied().unwrap_or_default())),
            },
        }
    }
}
