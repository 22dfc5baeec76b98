//! One result backend, of whichever kind.

use std::fmt;
use std::time::Duration;

use super::attempt::Attempt;
#[cfg(feature = "testing")]
use super::memory::MemoryBackend;
use super::redis::RedisBackend;
use super::{
    Awaited, BackendError, ChordPart, ExceptionInfo, Freshness, GroupChange, PartAnswer, ResultRef, TaskMeta,
};
use crate::broker::refusals::Refusals;
use crate::broker::{Answers, Batch, Broker};
use crate::config::{Config, Url};
use crate::finding::Finding;

/// The result backend of an application; cheap to clone.
///
/// Nothing is connected before the first call that needs it.
#[derive(Clone)]
pub struct Backend {
    pub(super) kind: Kind,
}

/// The kinds of result backends.
#[derive(Clone)]
pub(super) enum Kind {
    Redis(RedisBackend),
    #[cfg(feature = "testing")]
    Memory(MemoryBackend),
}

/// Calls a method of the backend, whichever kind it is of: one line for each kind.
macro_rules! of_each_kind {
    ($any:ident, $backend:ident => $call:expr) => {
        match &$any.kind {
            Kind::Redis($backend) => $call,
            #[cfg(feature = "testing")]
            Kind::Memory($backend) => $call,
        }
    };
}

pub(super) use of_each_kind;

impl Backend {
    /// Returns the result backend at a URL under those settings.
    ///
    /// # Errors
    /// [`BackendError::BadUrl`] and [`BackendError::BadTls`].
    pub(crate) fn open(url: &Url, config: &Config) -> Result<Self, BackendError> {
        Ok(Self {
            kind: match url.scheme() {
                #[cfg(feature = "testing")]
                "memory" => Kind::Memory(MemoryBackend::new(url, config)),
                _ => Kind::Redis(RedisBackend::open(url, config)?),
            },
        })
    }

    /// The Redis backend, if it is one.
    pub(crate) fn redis(&self) -> Option<&RedisBackend> {
        match &self.kind {
            Kind::Redis(backend) => Some(backend),
            #[cfg(feature = "testing")]
            Kind::Memory(_) => None,
        }
    }

    /// The backend in memory, if it is one.
    #[cfg(feature = "testing")]
    pub(crate) fn memory(&self) -> Option<&MemoryBackend> {
        match &self.kind {
            Kind::Redis(_) => None,
            Kind::Memory(backend) => Some(backend),
        }
    }

    /// Returns the writes that store a state and tell those who wait for it; a state that is not `fresh` does not
    /// overwrite a success. A state that cannot be stored becomes a failure.
    pub(crate) fn storing(&self, meta: &TaskMeta, fresh: bool) -> Batch {
        match &self.kind {
            Kind::Redis(backend) => Batch::of_results(backend.store_commands(meta, fresh)),
            #[cfg(feature = "testing")]
            Kind::Memory(backend) => backend.store_write(meta, fresh).into(),
        }
    }

    /// Returns the writes of [`Backend::storing`], or the exception with which the task fails instead, as in Celery.
    pub(crate) fn try_storing(&self, meta: &TaskMeta, fresh: bool) -> Result<Batch, ExceptionInfo> {
        match &self.kind {
            Kind::Redis(backend) => backend.try_store_commands(meta, fresh).map(Batch::of_results),
            #[cfg(feature = "testing")]
            Kind::Memory(backend) => backend.try_store_write(meta, fresh).map(Batch::from),
        }
    }

    /// Returns the writes that store a state unless a success is stored already.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`], [`BackendError::Refused`] and [`BackendError::Unreadable`]: the
    /// record may have to be looked at here.
    pub(crate) async fn storing_carefully(&self, meta: &TaskMeta) -> Result<Batch, BackendError> {
        match &self.kind {
            Kind::Redis(backend) => backend.careful_store_commands(meta).await.map(Batch::of_results),
            #[cfg(feature = "testing")]
            Kind::Memory(backend) => Ok(backend.store_write(meta, false).into()),
        }
    }

    /// Returns the writes that change what is kept of a group.
    pub(crate) fn changing(&self, change: &GroupChange) -> Batch {
        match &self.kind {
            Kind::Redis(backend) => Batch::of_results(backend.change_commands(change)),
            #[cfg(feature = "testing")]
            Kind::Memory(backend) => backend.change_write(change).into(),
        }
    }

    /// Returns the write that returns a chord's part and claims the chord under `token` if it is complete.
    ///
    /// `completing` is what another worker needs to go on in place of this one; `freshness` tells whether the part
    /// may be a late copy of one that was counted.
    pub(crate) fn returning(
        &self,
        part: &ChordPart,
        token: &str,
        completing: &[u8],
        freshness: Freshness,
    ) -> Batch {
        match &self.kind {
            Kind::Redis(backend) => {
                Batch::of_results(vec![backend.chord_part_command(part, token, completing, freshness)])
            }
            #[cfg(feature = "testing")]
            Kind::Memory(backend) => backend.part_write(part, token, completing, freshness).into(),
        }
    }

    /// Reads the answers to the last `count` writes, which were of [`Backend::returning`]; `None` for each that was lost.
    pub(crate) fn part_answers(&self, answers: Answers, count: usize) -> Vec<Option<PartAnswer>> {
        match &self.kind {
            Kind::Redis(_) => RedisBackend::part_answers(answers, count),
            #[cfg(feature = "testing")]
            Kind::Memory(_) => MemoryBackend::part_answers(answers, count),
        }
    }

    /// Returns the guard that keeps a claim: it forbids what follows when another worker has the claim now.
    pub(crate) fn keeping_claim(&self, group_id: &str, token: &str) -> Batch {
        match &self.kind {
            Kind::Redis(backend) => Batch::of_results(vec![backend.extend_claim_command(group_id, token)]),
            #[cfg(feature = "testing")]
            Kind::Memory(backend) => backend.keep_claim_write(group_id, token).into(),
        }
    }

    /// Returns the write that ends a chord whose body is sent.
    pub(crate) fn ending_chord(&self, group_id: &str, token: &str) -> Batch {
        match &self.kind {
            Kind::Redis(backend) => Batch::of_results(vec![backend.chord_clean_command(group_id, token)]),
            #[cfg(feature = "testing")]
            Kind::Memory(backend) => backend.clean_chord_write(group_id, token).into(),
        }
    }

    /// Returns the writes that save a group for [`Backend::restore_group`].
    pub(crate) fn saving_group(&self, group: &ResultRef) -> Batch {
        match &self.kind {
            Kind::Redis(backend) => Batch::of_results(backend.save_group_commands(group)),
            #[cfg(feature = "testing")]
            Kind::Memory(backend) => backend.save_group_write(group).into(),
        }
    }

    /// Carries out writes, all or none.
    ///
    /// # Errors
    /// [`BackendError::Connection`] and [`BackendError::Timeout`] (then it is unknown whether they were carried out), and
    /// [`BackendError::Refused`].
    pub(crate) async fn carry_out(&self, batch: Batch) -> Result<Answers, BackendError> {
        match &self.kind {
            Kind::Redis(backend) => backend.run(batch.into_results()).await.map(Answers::from),
            #[cfg(feature = "testing")]
            Kind::Memory(backend) => Ok(backend.carry_out(batch)),
        }
    }

    /// Carries out writes in one exchange, each for itself.
    ///
    /// # Errors
    /// As [`Backend::carry_out`].
    pub(crate) async fn carry_out_each(&self, batch: Batch) -> Result<(), BackendError> {
        match &self.kind {
            Kind::Redis(backend) => backend.run_each(batch.into_results()).await,
            #[cfg(feature = "testing")]
            Kind::Memory(backend) => {
                backend.carry_out(batch);
                Ok(())
            }
        }
    }

    /// Returns an attempt at carrying writes out that can be repeated.
    pub(crate) fn attempt(&self, batch: Batch) -> Attempt {
        match &self.kind {
            Kind::Redis(backend) => Attempt::Redis(backend.attempt(batch.into_results())),
            #[cfg(feature = "testing")]
            Kind::Memory(backend) => Attempt::Memory(backend.clone(), batch),
        }
    }

    /// Takes note that the server takes no record of more bytes.
    pub(crate) fn limit_to(&self, bytes: u64) {
        of_each_kind!(self, backend => backend.limit_to(bytes))
    }

    /// Stores a state at once, unless a success is stored already.
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`] and [`BackendError::Refused`].
    pub async fn store(&self, meta: &TaskMeta) -> Result<(), BackendError> {
        of_each_kind!(self, backend => backend.store(meta).await)
    }

    /// Returns the record of a task; `None` when nothing is stored of it.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`], [`BackendError::Refused`], and [`BackendError::Unreadable`] when
    /// the record cannot be read.
    pub async fn fetch(&self, task_id: &str) -> Result<Option<TaskMeta>, BackendError> {
        of_each_kind!(self, backend => backend.fetch(task_id).await)
    }

    /// Returns the records of some tasks, in their order; an error for a record that cannot be read.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`] and [`BackendError::Refused`].
    pub(crate) async fn fetch_many(
        &self,
        task_ids: &[impl AsRef<str>],
    ) -> Result<Vec<Result<Option<TaskMeta>, BackendError>>, BackendError> {
        of_each_kind!(self, backend => backend.fetch_many(task_ids).await)
    }

    /// Waits until a task is ready; subscribed, not polled. A server that is away meanwhile is waited for.
    ///
    /// Cancel safe: the result stays, and can be waited for again.
    ///
    /// # Errors
    /// [`BackendError::Timeout`] after `timeout`, or why the server could not be asked then, and
    /// [`BackendError::Unreadable`] when the record cannot be read.
    pub async fn wait(&self, task_id: &str, timeout: Duration) -> Result<TaskMeta, BackendError> {
        of_each_kind!(self, backend => backend.wait(task_id, timeout).await)
    }

    /// Waits until all of these tasks have succeeded or one has not; subscribed to the missing ones, not polled. A server
    /// that is away meanwhile is waited for.
    ///
    /// # Errors
    /// The reason why the server could not be asked when `timeout` was over, and [`BackendError::Unreadable`] when a record cannot be
    /// read.
    pub(crate) async fn wait_all(
        &self,
        task_ids: &[&str],
        timeout: Duration,
    ) -> Result<Awaited, BackendError> {
        of_each_kind!(self, backend => backend.wait_all(task_ids, timeout).await)
    }

    /// Removes the record of a task.
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`] and [`BackendError::Refused`].
    pub async fn forget(&self, task_id: &str) -> Result<(), BackendError> {
        of_each_kind!(self, backend => backend.forget(task_id).await)
    }

    /// Returns the group that was saved under that id.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`], [`BackendError::Refused`], and [`BackendError::Unreadable`] when
    /// the record cannot be read.
    pub async fn restore_group(&self, group_id: &str) -> Result<Option<ResultRef>, BackendError> {
        of_each_kind!(self, backend => backend.restore_group(group_id).await)
    }

    /// Removes a saved group.
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`] and [`BackendError::Refused`].
    pub async fn delete_group(&self, group_id: &str) -> Result<(), BackendError> {
        of_each_kind!(self, backend => backend.delete_group(group_id).await)
    }

    /// Notes now and then what the server does not let this user do.
    pub(crate) async fn watch_rights(self, hostname: &str, refusals: std::sync::Arc<Refusals>) {
        match self.kind {
            Kind::Redis(backend) => backend.watch_rights(hostname, refusals).await,
            #[cfg(feature = "testing")]
            Kind::Memory(_) => {}
        }
    }

    /// Warns when the server is set up so that it may lose results.
    pub(crate) async fn warn_of_loss(self) {
        match self.kind {
            Kind::Redis(backend) => backend.warn_of_loss().await,
            #[cfg(feature = "testing")]
            Kind::Memory(_) => {}
        }
    }
}

impl Backend {
    /// Returns whether the broker's server keeps the results too, maybe in another database.
    pub(crate) fn shares_server(&self, broker: &Broker) -> bool {
        match &self.kind {
            Kind::Redis(_) => {
                let is_beside = broker.redis().is_some_and(|queues| queues.results().selection().is_some());
                is_beside || broker.holds_results(self)
            }
            #[cfg(feature = "testing")]
            Kind::Memory(_) => true,
        }
    }

    /// Returns the key of a record that nobody stores, if results are kept at the same place as messages and have keys.
    pub(crate) fn key_at(&self, broker: &Broker) -> Option<String> {
        self.redis().filter(|_| broker.holds_results(self)).map(|redis| redis.task_key("doctor"))
    }

    /// Looks at the server.
    ///
    /// # Errors
    /// [`BackendError::Connection`] and [`BackendError::Timeout`].
    pub(crate) async fn examine(&self) -> Result<Vec<Finding>, BackendError> {
        match &self.kind {
            Kind::Redis(backend) => backend.examine_server().await,
            #[cfg(feature = "testing")]
            Kind::Memory(_) => Ok(Vec::new()),
        }
    }

    /// Looks for results that never expire, for as long as `patience` lasts.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`] and [`BackendError::Refused`].
    pub(crate) async fn survey(&self, patience: Duration) -> Result<Vec<Finding>, BackendError> {
        match &self.kind {
            Kind::Redis(backend) => backend.survey(patience).await,
            #[cfg(feature = "testing")]
            Kind::Memory(_) => Ok(Vec::new()),
        }
    }
}

impl fmt::Display for Backend {
    /// Writes the URL without its password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Redis(backend) => backend.endpoint().fmt(formatter),
            #[cfg(feature = "testing")]
            Kind::Memory(backend) => backend.server().fmt(formatter),
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Backend({self})")
    }
}
