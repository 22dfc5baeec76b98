//! Results in the memory of this process, for tests: `memory://NAME`.

mod chords;
mod claims;
mod results;

use std::sync::Arc;
use std::time::Duration;

use chords::{Chords, Part, Times};
use chrono::{DateTime, Utc};
use results::Results;

use super::record::Records;
use super::{
    Awaited, BackendError, ChordPart, ExceptionInfo, Freshness, GroupChange, PartAnswer, ResultRef, TaskMeta,
    TaskState,
};
use crate::broker::memory::{Answer, Server, Write};
use crate::broker::{Answers, Batch};
use crate::config::{Config, Url};
use crate::message::{Value, json};

/// How long a registered chord that cannot be gone on with is left alone, in seconds.
const PUT_OFF_SECONDS: u64 = 300;
/// Longest time between two renewals of counters.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// The results of one server in memory; cheap to clone.
#[derive(Clone)]
pub(crate) struct MemoryBackend {
    server: Arc<Server>,
    records: Records,
    expires: u64,
    failure_expires: u64,
    ordered: bool,
    join_timeout: Duration,
    times: Times,
}

impl MemoryBackend {
    /// The backend that a URL names, under those settings.
    pub(crate) fn new(url: &Url, config: &Config) -> Self {
        let expires = config.result_expires.map_or(0, |expires| expires.as_secs());
        let chord_expires = config.result_chord_expires.map_or(expires, |expires| expires.as_secs());
        let join_timeout = match config.result_chord_join_timeout {
            Duration::ZERO => Duration::from_secs(3),
            timeout => timeout,
        };
        let claim = (join_timeout.as_secs() * 2).max(5);
        let size = if chord_expires > 0 { chord_expires.min(30) } else { 30 };
        let options = &config.result_backend_transport_options;
        Self {
            server: Server::named(url),
            records: Records::new(config),
            expires,
            failure_expires: config.result_failure_expires.map_or(expires, |expires| expires.as_secs()),
            ordered: options.flag("result_chord_ordered").unwrap_or(true),
            join_timeout,
            times: Times { expires: chord_expires, claim, size, done: (claim * 2).max(300) },
        }
    }

    /// Returns the server that keeps the results.
    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    pub(crate) fn limit_to(&self, bytes: u64) {
        self.records.limit_to(bytes);
    }

    pub(crate) fn join_timeout(&self) -> Duration {
        self.join_timeout
    }

    pub(crate) fn renewal(&self) -> Option<Duration> {
        (self.times.expires > 0).then(|| (Duration::from_secs(self.times.expires) / 3).min(RENEW_EVERY))
    }

    /// Returns the write that stores a state; one that is not `fresh` does not overwrite a success.
    pub(crate) fn store_write(&self, meta: &TaskMeta, fresh: bool) -> Write {
        let (status, record) = self.records.write(meta);
        self.stored(meta, status, record, fresh)
    }

    /// As [`MemoryBackend::store_write`], or the exception with which the task fails instead.
    pub(crate) fn try_store_write(&self, meta: &TaskMeta, fresh: bool) -> Result<Write, ExceptionInfo> {
        let record = self.records.try_write(meta)?;
        Ok(self.stored(meta, meta.status.clone(), record, fresh))
    }

    fn stored(&self, meta: &TaskMeta, status: TaskState, record: Vec<u8>, fresh: bool) -> Write {
        let expires = if status == TaskState::Failure { self.failure_expires } else { self.expires };
        let task_id = meta.task_id.clone();
        Write::new(move |state| {
            let (now, results) = state.kept::<Results>();
            let (status, record) = (status.clone(), record.clone());
            Answer::Allowed(results.store(now, &task_id, status, record, (expires, fresh)))
        })
    }

    /// Returns the write that changes what is kept of a group.
    pub(crate) fn change_write(&self, change: &GroupChange) -> Write {
        match change {
            GroupChange::Size { group_id, size } => self.chord_size_write(group_id, *size as u64),
            GroupChange::Grow { group_id, by } => self.chord_grow_write(group_id, *by as i64),
            GroupChange::Failed { group_id } => self.chord_fail_write(group_id),
            GroupChange::Save(group) => self.save_group_write(group),
        }
    }

    /// Returns the write that sets a chord's size before its last header task is sent.
    pub(crate) fn chord_size_write(&self, group_id: &str, size: u64) -> Write {
        let times = self.times;
        chords(group_id, move |chords, now, group_id| chords.set_size(now, group_id, size, times))
    }

    /// Returns the write that adds parts to a running chord.
    pub(crate) fn chord_grow_write(&self, group_id: &str, by: i64) -> Write {
        chords(group_id, move |chords, now, group_id| chords.grow(now, group_id, by))
    }

    /// Returns the write that ends a chord that failed.
    pub(crate) fn chord_fail_write(&self, group_id: &str) -> Write {
        let times = self.times;
        chords(group_id, move |chords, now, group_id| chords.fail(now, group_id, times))
    }

    /// Returns the write that saves a group for [`MemoryBackend::restore_group`].
    pub(crate) fn save_group_write(&self, group: &ResultRef) -> Write {
        let record = Value::Map([("result".to_owned(), group.to_value())].into_iter().collect());
        // Ids have a form everywhere.
        let record = self.records.encoding.encode(json::dumps(&record).into_bytes()).unwrap_or_default();
        let (group_id, expires) = (group.id.clone(), self.expires);
        Write::doing(move |state| {
            let (now, results) = state.kept::<Results>();
            results.save_group(now, &group_id, record.clone(), expires);
        })
    }

    /// Returns the write that returns a part, and claims the chord if that completes it.
    pub(crate) fn part_write(
        &self,
        part: &ChordPart,
        token: &str,
        completing: &[u8],
        freshness: Freshness,
    ) -> Write {
        let encoded = self.records.encoding.encode(part.encode()).unwrap_or_else(|_| part.encode());
        let (group_id, task_id, index) = (part.group_id.clone(), part.task_id.clone(), part.group_index);
        let (token, completing) = (token.to_owned(), completing.to_vec());
        let (ordered, times) = (self.ordered, self.times);
        Write::new(move |state| {
            let part = Part {
                task_id: &task_id,
                index,
                encoded: &encoded,
                ordered,
                token: &token,
                completing: &completing,
                freshness,
            };
            let (now, results) = state.kept::<Results>();
            Answer::Other(Arc::new(results.chords.add_part(now, &group_id, &part, times)))
        })
    }

    /// Returns the write that keeps a claim, if it is still that of the token.
    pub(crate) fn keep_claim_write(&self, group_id: &str, token: &str) -> Write {
        let (group_id, token, times) = (group_id.to_owned(), token.to_owned(), self.times);
        Write::new(move |state| {
            let (now, results) = state.kept::<Results>();
            Answer::Allowed(results.chords.extend(now, &group_id, &token, times))
        })
    }

    /// Returns the write that ends a chord of which the body was sent.
    pub(crate) fn clean_chord_write(&self, group_id: &str, token: &str) -> Write {
        let (group_id, token, times) = (group_id.to_owned(), token.to_owned(), self.times);
        Write::new(move |state| {
            let (now, results) = state.kept::<Results>();
            Answer::Allowed(results.chords.clean(now, &group_id, &token, times))
        })
    }

    /// Reads something at this time.
    pub(crate) fn read<T>(&self, read: impl FnOnce(DateTime<Utc>, &mut Results) -> T) -> T {
        self.server.read(|state| {
            let (now, results) = state.kept();
            read(now, results)
        })
    }

    /// Changes something at this time.
    fn change<T>(&self, change: impl FnOnce(DateTime<Utc>, &mut Results) -> T) -> T {
        self.server.change(|state| {
            let (now, results) = state.kept();
            change(now, results)
        })
    }

    /// Returns what is stored of a task; `None` when nothing is.
    ///
    /// # Errors
    /// The record cannot be read.
    pub(crate) fn meta(&self, task_id: &str) -> Result<Option<TaskMeta>, BackendError> {
        let record = self.read(|now, results| results.record(now, task_id).map(<[u8]>::to_vec));
        let Some(record) = record else { return Ok(None) };
        let record = self.records.encoding.decode(&record);
        let meta = record.and_then(|record| TaskMeta::from_value(task_id, record));
        meta.map(Some).map_err(BackendError::unreadable(task_id))
    }

    /// Stores a state at once, unless a success is stored already.
    pub(crate) async fn store(&self, meta: &TaskMeta) -> Result<(), BackendError> {
        self.carry_out(self.store_write(meta, false).into());
        Ok(())
    }

    /// Returns what is stored of a task; `None` when nothing is.
    ///
    /// # Errors
    /// [`BackendError::Unreadable`].
    pub(crate) async fn fetch(&self, task_id: &str) -> Result<Option<TaskMeta>, BackendError> {
        self.meta(task_id)
    }

    /// Returns what is stored of some tasks, in their order; an error for a record that cannot be read.
    pub(crate) async fn fetch_many(
        &self,
        task_ids: &[impl AsRef<str>],
    ) -> Result<Vec<Result<Option<TaskMeta>, BackendError>>, BackendError> {
        Ok(task_ids.iter().map(|task_id| self.meta(task_id.as_ref())).collect())
    }

    /// Waits until a task is ready.
    ///
    /// # Errors
    /// [`BackendError::Timeout`], and the record cannot be read.
    pub(crate) async fn wait(&self, task_id: &str, timeout: Duration) -> Result<TaskMeta, BackendError> {
        match self.wait_all(&[task_id], timeout).await? {
            Awaited::Ready(mut metas) if !metas.is_empty() => Ok(metas.remove(0)),
            Awaited::Failed(meta) => Ok(*meta),
            _ => Err(BackendError::Timeout { url: self.server.to_string(), deadline: timeout }),
        }
    }

    /// Waits until all of these tasks have succeeded or one has not.
    ///
    /// # Errors
    /// A record cannot be read.
    pub(crate) async fn wait_all(
        &self,
        task_ids: &[&str],
        deadline: Duration,
    ) -> Result<Awaited, BackendError> {
        let mut changes = self.server.changes();
        let mut missing = 0;
        let waiting = async {
            loop {
                changes.borrow_and_update();
                let states: Vec<TaskState> = self.read(|now, results| {
                    task_ids.iter().map(|task_id| results.status(now, task_id)).collect()
                });
                let failed = |state: &TaskState| state.is_ready() && *state != TaskState::Success;
                if let Some(place) = states.iter().position(failed) {
                    return Some(place);
                }
                match states.iter().position(|state| !state.is_ready()) {
                    Some(place) => missing = place,
                    None => return None,
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let Ok(failed) = tokio::time::timeout(deadline, waiting).await else {
            return Ok(Awaited::Missing(missing));
        };
        let read = |place: usize| {
            let meta = self.meta(task_ids[place])?;
            Ok(meta.unwrap_or_else(|| TaskMeta::new(task_ids[place], TaskState::Pending, Value::Null)))
        };
        match failed {
            Some(place) => Ok(Awaited::Failed(Box::new(read(place)?))),
            None => Ok(Awaited::Ready((0..task_ids.len()).map(read).collect::<Result<_, BackendError>>()?)),
        }
    }

    /// Removes what is stored of a task.
    pub(crate) async fn forget(&self, task_id: &str) -> Result<(), BackendError> {
        self.change(|_, results| results.forget(task_id));
        Ok(())
    }

    /// Returns the group that was saved under that id.
    ///
    /// # Errors
    /// The record cannot be read.
    pub(crate) async fn restore_group(&self, group_id: &str) -> Result<Option<ResultRef>, BackendError> {
        let record = self.read(|now, results| results.group(now, group_id).map(<[u8]>::to_vec));
        let Some(record) = record else { return Ok(None) };
        let record = self.records.encoding.decode(&record).map_err(BackendError::unreadable(group_id))?;
        Ok(record.get("result").and_then(ResultRef::from_value))
    }

    /// Removes a saved group.
    pub(crate) async fn delete_group(&self, group_id: &str) -> Result<(), BackendError> {
        self.change(|_, results| results.delete_group(group_id));
        Ok(())
    }

    /// Carries out writes, all or none.
    pub(crate) fn carry_out(&self, batch: Batch) -> Answers {
        Answers::Memory(self.server.carry_out(&batch.into_writes()))
    }

    /// Reads the answers to the last `count` writes, which returned parts.
    pub(crate) fn part_answers(answers: Answers, count: usize) -> Vec<Option<PartAnswer>> {
        let answers = match answers {
            Answers::Memory(answers) => answers,
            _ => Vec::new(),
        };
        let first = answers.len().saturating_sub(count);
        let read = |answer| match answer {
            Answer::Other(answer) => answer.downcast_ref::<PartAnswer>().cloned(),
            Answer::Done | Answer::Allowed(_) => None,
        };
        let mut read: Vec<_> = answers.into_iter().skip(first).map(read).collect();
        read.resize(count, None);
        read
    }
}

/// Returns a write on one of the chords.
fn chords(group_id: &str, write: impl Fn(&mut Chords, DateTime<Utc>, &str) + Send + Sync + 'static) -> Write {
    let group_id = group_id.to_owned();
    Write::doing(move |state| {
        let (now, results) = state.kept::<Results>();
        write(&mut results.chords, now, &group_id);
    })
}
