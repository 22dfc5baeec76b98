//! Results in Redis, in Celery's layout.
//!
//! Source: celery 5.7 `celery/backends/redis.py`, `celery/backends/base.py`; transcripts
//! `vectors/monitor/backend_*.txt`.

mod attempt;
mod chord;
mod chord_scripts;
mod examine;
mod read;
mod waiters;

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, Value as Reply, cmd};

pub(crate) use attempt::Attempt;

use super::record::Records;
use super::{BackendError, ExceptionInfo, ResultRef, TaskMeta, TaskState};
use crate::broker::redis::{
    Endpoint, Link, Timing, ask_for_limit, eval, limit, warn_of_eviction, watch_results,
};
use crate::broker::refusals::Refusals;
use crate::config::{Config, Url};
use crate::message::{Value, json};
use waiters::Waiters;

/// Stores a state unless a success is stored already: a late copy of a task cannot overwrite it.
const STORE_UNLESS_SUCCESS: &str = r#"
local stored = redis.call('GET', KEYS[1])
if stored and string.find(stored, '^{"status": "SUCCESS"') then return 0 end
if tonumber(ARGV[2]) > 0 then redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) else redis.call('SET', KEYS[1], ARGV[1]) end
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1"#;

/// The results of one Redis database; cheap to clone.
#[derive(Clone)]
pub struct RedisBackend {
    link: Link,
    prefix: Arc<str>,
    expires: u64,
    failure_expires: u64,
    chord_expires: u64,
    ordered: bool,
    join_timeout: Duration,
    records: Records,
    waiters: Waiters,
}

/// What came of commands that were sent over a connection of their own.
pub(crate) enum Apart {
    /// They were answered.
    Answered(Result<Vec<Reply>, BackendError>),
    /// The connection broke over them, though it was good before.
    Broke {
        error: BackendError,
        /// The most bytes that the server takes as one argument, if it tells.
        limit: Option<u64>,
    },
}

impl RedisBackend {
    /// The backend at that database under those settings; nothing is connected yet.
    pub fn new(endpoint: Endpoint, config: &Config) -> Self {
        let link = Link::new(endpoint, Timing::result_backend(config));
        let options = &config.result_backend_transport_options;
        let mut prefix = options.text("global_keyprefix").unwrap_or("").to_owned();
        if prefix.chars().last().is_some_and(|last| !":_-.".contains(last)) {
            prefix.push('_');
        }
        let expires = config.result_expires.map_or(0, |expires| expires.as_secs());
        Self {
            waiters: Waiters::new(link.clone()),
            link,
            records: Records::new(config),
            prefix: prefix.into(),
            expires,
            failure_expires: config.result_failure_expires.map_or(expires, |expires| expires.as_secs()),
            chord_expires: config.result_chord_expires.map_or(expires, |expires| expires.as_secs()),
            ordered: options.flag("result_chord_ordered").unwrap_or(true),
            join_timeout: match config.result_chord_join_timeout {
                Duration::ZERO => Duration::from_secs(3),
                timeout => timeout,
            },
        }
    }

    /// The backend at a URL under those settings; nothing is connected yet.
    ///
    /// # Errors
    /// [`BackendError::BadUrl`] and [`BackendError::BadTls`].
    pub(crate) fn open(url: &Url, config: &Config) -> Result<Self, BackendError> {
        Ok(Self::new(Endpoint::result_backend(url, config)?, config))
    }

    /// Notes now and then which rights are missing.
    pub(crate) async fn watch_rights(self, hostname: &str, refusals: Arc<Refusals>) {
        let key = self.task_key(hostname);
        watch_results(self.link, key, refusals).await;
    }

    /// Warns when the server evicts keys.
    pub(crate) async fn warn_of_loss(self) {
        warn_of_eviction(self.link).await;
    }

    /// Takes note that the server takes no more bytes than that.
    pub(crate) fn limit_to(&self, bytes: u64) {
        self.records.limit_to(bytes);
    }

    /// Where the results are.
    pub fn endpoint(&self) -> &Endpoint {
        self.link.endpoint()
    }

    /// The key, and the channel, of a task's record.
    pub fn task_key(&self, task_id: &str) -> String {
        [&self.prefix, "celery-task-meta-", task_id].concat()
    }

    /// The key of a group's record, or of a part of a chord's state.
    pub fn group_key(&self, group_id: &str, part: &str) -> String {
        format!("{}celery-taskset-meta-{group_id}{part}", self.prefix)
    }

    /// The commands that store a state and tell those who wait for it; one that is not `fresh` does not overwrite a
    /// success, which can be seen only in records that are JSON. What cannot be stored becomes a failure.
    pub(crate) fn store_commands(&self, meta: &TaskMeta, fresh: bool) -> Vec<Cmd> {
        let (status, value) = self.records.write(meta);
        self.commands(&meta.task_id, &status, &value, fresh)
    }

    /// As [`RedisBackend::store_commands`], or the exception with which the task fails instead, as in Celery.
    pub(crate) fn try_store_commands(&self, meta: &TaskMeta, fresh: bool) -> Result<Vec<Cmd>, ExceptionInfo> {
        let value = self.records.try_write(meta)?;
        Ok(self.commands(&meta.task_id, &meta.status, &value, fresh))
    }

    fn commands(&self, task_id: &str, status: &TaskState, value: &[u8], fresh: bool) -> Vec<Cmd> {
        let key = self.task_key(task_id);
        let expires = if *status == TaskState::Failure { self.failure_expires } else { self.expires };
        if !fresh {
            return vec![eval(STORE_UNLESS_SUCCESS, &[&key], &[value, expires.to_string().as_bytes()])];
        }
        let mut publish = Cmd::with_capacity(3, key.len() + value.len() + 8);
        publish.arg("PUBLISH").arg(&key).arg(value);
        vec![set(&key, value, expires), publish]
    }

    /// The commands that store a state unless a success is stored already.
    ///
    /// # Errors
    /// Those of the server: records that are not JSON have to be looked at here.
    pub(crate) async fn careful_store_commands(&self, meta: &TaskMeta) -> Result<Vec<Cmd>, BackendError> {
        if self.records.encoding.is_json() {
            return Ok(self.store_commands(meta, false));
        }
        let stored = self.fetch(&meta.task_id).await?;
        let is_done = stored.is_some_and(|stored| stored.status == TaskState::Success);
        Ok(if is_done { Vec::new() } else { self.store_commands(meta, true) })
    }

    /// Stores a state at once.
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// [`BackendError`] when the server cannot be reached or refuses the command.
    pub async fn store(&self, meta: &TaskMeta) -> Result<(), BackendError> {
        let commands = self.careful_store_commands(meta).await?;
        self.run(commands).await.map(drop)
    }

    /// Removes what is stored of a task.
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// [`BackendError`] when the server cannot be reached or refuses the command.
    pub async fn forget(&self, task_id: &str) -> Result<(), BackendError> {
        self.link.call(Pipeline::new().cmd("DEL").arg(self.task_key(task_id))).await?;
        Ok(())
    }

    /// The commands that save a group for [`RedisBackend::restore_group`].
    pub(crate) fn save_group_commands(&self, group: &ResultRef) -> Vec<Cmd> {
        let key = self.group_key(&group.id, "");
        let record =
            json::dumps(&Value::Map([("result".to_owned(), group.to_value())].into_iter().collect()));
        // Ids have a form everywhere.
        let value = self.records.encoding.encode(record.into_bytes()).unwrap_or_default();
        let mut publish = cmd("PUBLISH");
        publish.arg(&key).arg(&value);
        vec![set(&key, &value, self.expires), publish]
    }

    /// The group that was saved under that id.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// [`BackendError`] when the server cannot be reached or refuses the command, [`BackendError::Unreadable`] when the record cannot be read.
    pub async fn restore_group(&self, group_id: &str) -> Result<Option<ResultRef>, BackendError> {
        let replies = self.link.call(Pipeline::new().cmd("GET").arg(self.group_key(group_id, ""))).await?;
        match &replies[0] {
            Reply::BulkString(stored) => {
                let record =
                    self.records.encoding.decode(stored).map_err(BackendError::unreadable(group_id))?;
                Ok(record.get("result").and_then(ResultRef::from_value))
            }
            _ => Ok(None),
        }
    }

    /// Removes a saved group.
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// [`BackendError`] when the server cannot be reached or refuses the command.
    pub async fn delete_group(&self, group_id: &str) -> Result<(), BackendError> {
        self.link.call(Pipeline::new().cmd("DEL").arg(self.group_key(group_id, ""))).await?;
        Ok(())
    }

    /// Carries out commands in one round trip, each for itself.
    pub(crate) async fn run_each(&self, commands: Vec<Cmd>) -> Result<(), BackendError> {
        let mut pipeline = Pipeline::new();
        for command in commands {
            pipeline.add_command(command);
        }
        if !pipeline.is_empty() {
            self.link.call(&mut pipeline).await?;
        }
        Ok(())
    }

    /// Carries out commands, all or nothing.
    pub(crate) async fn run(&self, commands: Vec<Cmd>) -> Result<Vec<Reply>, BackendError> {
        let mut pipeline = Pipeline::new();
        if commands.len() > 1 {
            pipeline.atomic();
        }
        for command in commands {
            pipeline.add_command(command);
        }
        if pipeline.is_empty() { Ok(Vec::new()) } else { Ok(self.link.call(&mut pipeline).await?) }
    }

    /// As [`RedisBackend::run`], over a connection of its own that is known to be good.
    pub(crate) async fn run_apart(&self, commands: Vec<Cmd>) -> Apart {
        let apart = Self { link: self.link.sibling(), ..self.clone() };
        let limit = match apart.link.send(&mut ask_for_limit()).await {
            Ok(answers) => answers.first().and_then(limit),
            Err(error) => return Apart::Answered(Err(error.into())),
        };
        match apart.run(commands).await {
            Err(error @ BackendError::Connection { .. }) => Apart::Broke { error, limit },
            outcome => Apart::Answered(outcome),
        }
    }
}

fn set(key: &str, value: &[u8], expires: u64) -> Cmd {
    if expires == 0 {
        let mut set = cmd("SET");
        set.arg(key).arg(value);
        set
    } else {
        let mut set = Cmd::with_capacity(4, key.len() + value.len() + 16);
        set.arg("SETEX").arg(key).arg(expires).arg(value);
        set
    }
}
