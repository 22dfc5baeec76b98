//! A schedule in Redis, in RedBeat's layout: several beats, also of Python, of which one sends.
//!
//! Source: celery-redbeat 2.4.2 `schedulers.py`; samples `beat/redbeat_*.json`.

mod scripts;

use std::collections::HashSet;
use std::time::Duration;

use celeriac::Timezone;
use chrono::{DateTime, Utc};
use log::{error, warn};
use redis::AsyncCommands;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Look, Recorded, ScheduleStore, Standing, StoreError, moment};
use crate::entry::{Entry, Run};
use crate::schedule::{Schedule, Terms};

/// How the schedule is kept in Redis.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// RedBeat's `redbeat_key_prefix`.
    pub key_prefix: String,
    /// RedBeat's `redbeat_lock_key`; `None` has no lock, so that only one beat may run.
    pub lock_key: Option<String>,
    /// RedBeat's `redbeat_lock_timeout`: after this time the lock of a beat that died is free. RedBeat's own default is
    /// 25 minutes.
    pub lock_timeout: Duration,
    /// The zone in which points in time are written; the app's.
    pub timezone: Timezone,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            key_prefix: "redbeat:".to_owned(),
            lock_key: Some("redbeat::lock".to_owned()),
            lock_timeout: Duration::from_secs(4),
            timezone: Timezone::UTC,
        }
    }
}

/// Keeps entries and last runs in Redis as RedBeat does: entries that Python programs add are sent, too.
///
/// One key is celeriac's own: the hash `redbeat::pending` of runs that are recorded but not sent yet.
pub struct RedisStore {
    connection: ConnectionManager,
    server: String,
    options: RedisOptions,
    keys: Keys,
    token: String,
    holds_lock: bool,
    /// Entries that cannot be read and were already said to be so.
    unreadable: HashSet<String>,
}

struct Keys {
    schedule: String,
    statics: String,
    pending: String,
    /// Any key where there is no lock; it is not read then.
    lock: String,
}

const TIMEOUT: Duration = Duration::from_secs(2);

impl RedisStore {
    /// A store at that URL; it connects when first used, and again whenever the connection is lost. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// When the URL is not one of Redis.
    pub fn new(url: &str, options: RedisOptions) -> Result<Self, StoreError> {
        let failure = |source| StoreError::Redis { server: "the given URL".to_owned(), source };
        let client = redis::Client::open(url).map_err(failure)?;
        let server = client.get_connection_info().addr().to_string();
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT))
            .set_max_delay(Duration::from_millis(500))
            .set_number_of_retries(1);
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(failure)?;
        let prefix = &options.key_prefix;
        let lock = options.lock_key.clone().unwrap_or_else(|| ":lock".to_owned());
        let keys = Keys {
            schedule: format!("{prefix}:schedule"),
            statics: format!("{prefix}:statics"),
            pending: format!("{prefix}:pending"),
            lock: if lock.starts_with(prefix.as_str()) { lock } else { format!("{prefix}{lock}") },
        };
        let token = Uuid::new_v4().simple().to_string();
        Ok(Self { connection, server, options, keys, token, holds_lock: false, unreadable: HashSet::new() })
    }

    /// The server, without its password.
    pub fn server(&self) -> &str {
        &self.server
    }

    fn key_of(&self, name: &str) -> String {
        format!("{}{name}", self.options.key_prefix)
    }

    fn failure(&self) -> impl Fn(redis::RedisError) -> StoreError + use<> {
        let server = self.server.clone();
        move |source| StoreError::Redis { server: server.clone(), source }
    }

    fn lock_timeout_ms(&self) -> u64 {
        u64::try_from(self.options.lock_timeout.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn meta(&self, entry: &Entry) -> Value {
        let last_run_at = entry.last_run_at.map(|time| moment::encode(time, self.options.timezone));
        if entry.total_run_count == 0 {
            return json!({"last_run_at": last_run_at});
        }
        json!({"last_run_at": last_run_at, "total_run_count": entry.total_run_count})
    }

    async fn load(&mut self, keys: &[String]) -> Result<Vec<Loaded>, StoreError> {
        let mut commands = redis::pipe();
        for key in keys {
            commands.hget(key, "definition").hget(key, "meta");
        }
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let texts: Vec<Option<String>> =
            commands.query_async(&mut self.connection).await.map_err(self.failure())?;
        let pairs = keys.iter().zip(texts.chunks_exact(2));
        Ok(pairs.map(|(key, texts)| self.read(key, texts[0].as_deref(), texts[1].as_deref())).collect())
    }

    fn read(&self, key: &str, definition: Option<&str>, meta: Option<&str>) -> Loaded {
        let Some(definition) = definition else { return Loaded::Missing(key.to_owned()) };
        let name = key.strip_prefix(&self.options.key_prefix).unwrap_or(key);
        let unreadable = |reason: String| Loaded::Unreadable(key.to_owned(), reason);
        let definition: Value = match serde_json::from_str(definition) {
            Ok(definition) => definition,
            Err(error) => return unreadable(format!("its definition is not JSON: {error}")),
        };
        let mut entry = match Entry::from_json(name, &definition) {
            Ok(entry) => entry,
            Err(error) => return unreadable(error.to_string()),
        };
        let meta: Value = match meta.map(serde_json::from_str).transpose() {
            Ok(meta) => meta.unwrap_or_default(),
            Err(error) => return unreadable(format!("its meta is not JSON: {error}")),
        };
        let last_run_at = match meta.get("last_run_at") {
            None | Some(Value::Null) => None,
            Some(time) => match moment::decode(time) {
                Some(time) => Some(time),
                None => return unreadable(format!("last_run_at {time} is no point in time")),
            },
        };
        entry.remember(last_run_at, meta.get("total_run_count").and_then(Value::as_u64).unwrap_or(0));
        Loaded::Entry(Box::new(entry))
    }

    /// Forgets entries that were configured and are no longer.
    async fn forget_others(&mut self, configured: &[Entry]) -> Result<(), StoreError> {
        let known: Vec<String> =
            self.connection.smembers(&self.keys.statics).await.map_err(self.failure())?;
        let others = known.iter().filter(|name| !configured.iter().any(|entry| entry.name == **name));
        let mut commands = redis::pipe();
        commands.atomic();
        for name in others {
            let key = self.key_of(name);
            commands.zrem(&self.keys.schedule, &key).ignore().del(&key).ignore();
            commands.srem(&self.keys.statics, name).ignore().hdel(&self.keys.pending, name).ignore();
        }
        commands.query_async(&mut self.connection).await.map_err(self.failure())
    }
}

/// What was found under a key of the schedule.
enum Loaded {
    Entry(Box<Entry>),
    Missing(String),
    Unreadable(String, String),
}

impl ScheduleStore for RedisStore {
    async fn lead(&mut self) -> Result<Standing, StoreError> {
        if self.options.lock_key.is_none() {
            return Ok(Standing::Leader);
        }
        if self.holds_lock {
            let extended: bool = scripts::extend()
                .key(&self.keys.lock)
                .arg(&self.token)
                .arg(self.lock_timeout_ms())
                .invoke_async(&mut self.connection)
                .await
                .map_err(self.failure())?;
            if extended {
                return Ok(Standing::Leader);
            }
            self.holds_lock = false;
        }
        let taken: Option<String> = redis::cmd("SET")
            .arg((&self.keys.lock, &self.token, "NX", "PX", self.lock_timeout_ms()))
            .query_async(&mut self.connection)
            .await
            .map_err(self.failure())?;
        self.holds_lock = taken.is_some();
        Ok(if self.holds_lock { Standing::Leader } else { Standing::StandBy })
    }

    fn heartbeat(&self) -> Duration {
        self.options.lock_timeout / 4
    }

    async fn open(
        &mut self,
        configured: &[Entry],
        now: DateTime<Utc>,
        terms: &Terms,
    ) -> Result<(), StoreError> {
        if let Some(entry) = configured.iter().find(|entry| matches!(entry.schedule, Schedule::Solar(_))) {
            return Err(StoreError::Unstorable { entry: entry.name.clone() });
        }
        self.unreadable.clear();
        self.forget_others(configured).await?;
        let keys: Vec<String> = configured.iter().map(|entry| self.key_of(&entry.name)).collect();
        let stored = self.load(&keys).await?;
        let mut commands = redis::pipe();
        commands.atomic();
        for ((configured, key), stored) in configured.iter().zip(&keys).zip(stored) {
            let mut entry = configured.clone();
            entry.last_run_at = Some(entry.last_run_at.unwrap_or(now));
            match stored {
                Loaded::Entry(stored) => {
                    entry.remember(stored.last_run_at, stored.total_run_count);
                    // Who disabled an entry in Redis wants it to stay so.
                    entry.enabled &= stored.enabled;
                }
                Loaded::Unreadable(..) => drop(commands.hdel(key, "meta").ignore()),
                Loaded::Missing(_) => {}
            }
            commands.hset(key, "definition", entry.definition().to_string()).ignore();
            commands.hset_nx(key, "meta", self.meta(&entry).to_string()).ignore();
            commands.zadd(&self.keys.schedule, key, score(entry.next_look(now, terms))).ignore();
            commands.sadd(&self.keys.statics, &entry.name).ignore();
        }
        commands.query_async(&mut self.connection).await.map_err(self.failure())
    }

    async fn look(&mut self, now: DateTime<Utc>, horizon: Duration) -> Result<Look, StoreError> {
        let (from, to) = (score(now), score(now + horizon));
        let (due, next): (Vec<String>, Vec<(String, f64)>) = redis::pipe()
            .atomic()
            .zrangebyscore(&self.keys.schedule, 0, &from)
            .cmd("ZRANGEBYSCORE")
            .arg((&self.keys.schedule, format!("({from}"), to, "WITHSCORES", "LIMIT", 0, 1))
            .query_async(&mut self.connection)
            .await
            .map_err(self.failure())?;
        let mut entries = Vec::new();
        for loaded in self.load(&due).await? {
            match loaded {
                Loaded::Entry(entry) => entries.push(*entry),
                Loaded::Missing(key) => {
                    warn!("entry {key} is in the schedule but does not exist; it is taken out");
                    let removed: Result<(), _> = self.connection.zrem(&self.keys.schedule, &key).await;
                    removed.map_err(self.failure())?;
                }
                Loaded::Unreadable(key, reason) => {
                    if self.unreadable.insert(format!("{key} {reason}")) {
                        error!("entry {key} is not sent: {reason}");
                    }
                }
            }
        }
        let next = next.first().and_then(|(_, score)| DateTime::from_timestamp_micros((score * 1e6) as i64));
        Ok(Look { entries, next })
    }

    async fn reschedule(&mut self, entry: &Entry, next: DateTime<Utc>) -> Result<(), StoreError> {
        redis::cmd("ZADD")
            .arg((&self.keys.schedule, "XX", score(next), self.key_of(&entry.name)))
            .query_async(&mut self.connection)
            .await
            .map_err(self.failure())
    }

    async fn record(
        &mut self,
        entry: &Entry,
        next: DateTime<Utc>,
        run: &Run,
    ) -> Result<Recorded, StoreError> {
        let token = if self.options.lock_key.is_some() { self.token.as_str() } else { "" };
        let run_text = json!(run).to_string();
        let outcome: u8 = scripts::record()
            .key(&self.keys.lock)
            .key(self.key_of(&entry.name))
            .key(&self.keys.schedule)
            .key(&self.keys.pending)
            .arg(token)
            .arg(self.meta(entry).to_string())
            .arg(score(next))
            .arg(&entry.name)
            .arg(run_text)
            .invoke_async(&mut self.connection)
            .await
            .map_err(self.failure())?;
        Ok(match outcome {
            scripts::RECORDED => Recorded::Recorded,
            scripts::GONE => Recorded::Gone,
            _ => {
                self.holds_lock = false;
                Recorded::NotLeader
            }
        })
    }

    async fn pending(&mut self) -> Result<Vec<Run>, StoreError> {
        let texts: Vec<String> = self.connection.hvals(&self.keys.pending).await.map_err(self.failure())?;
        let read = |text: &String| match serde_json::from_str(text) {
            Ok(run) => Some(run),
            Err(error) => {
                error!("a pending run in {} cannot be read and is not sent: {error}", self.keys.pending);
                None
            }
        };
        Ok(texts.iter().filter_map(read).collect())
    }

    async fn sent(&mut self, run: &Run) -> Result<(), StoreError> {
        scripts::strike_off()
            .key(&self.keys.pending)
            .arg(&run.entry)
            .arg(run.id.to_string())
            .invoke_async(&mut self.connection)
            .await
            .map_err(self.failure())
    }

    async fn release(&mut self) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.holds_lock) {
            return Ok(());
        }
        scripts::release()
            .key(&self.keys.lock)
            .arg(&self.token)
            .invoke_async(&mut self.connection)
            .await
            .map_err(self.failure())
    }
}

/// A point in time as the score of `redbeat::schedule`: Unix seconds. RedBeat cuts fractions off; it reads them.
fn score(time: DateTime<Utc>) -> String {
    format!("{}.{:06}", time.timestamp(), time.timestamp_subsec_micros())
}
