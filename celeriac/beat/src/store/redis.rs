//! A schedule in Redis, in RedBeat's layout: several beats, also of Python, of which one sends.
//!
//! Source: celery-redbeat 2.4.2 `schedulers.py`; samples `beat/redbeat_*.json`.

mod scripts;

use std::collections::HashSet;
use std::time::Duration;

use celeriac::Timezone;
use celeriac::broker::redis::Link;
use chrono::{DateTime, Utc};
use log::{error, warn};
use redis::{Cmd, FromRedisValue, Pipeline, cmd, pipe};
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
    link: Link,
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

impl RedisStore {
    /// A store in that database; it connects when first used, and again whenever the connection is lost.
    ///
    /// Where several servers share the keys (Redis Cluster), `key_prefix` and `lock_key` need one hash tag.
    pub fn new(link: Link, options: RedisOptions) -> Self {
        let prefix = &options.key_prefix;
        let lock = options.lock_key.clone().unwrap_or_else(|| ":lock".to_owned());
        let keys = Keys {
            schedule: format!("{prefix}:schedule"),
            statics: format!("{prefix}:statics"),
            pending: format!("{prefix}:pending"),
            lock: if lock.starts_with(prefix.as_str()) { lock } else { format!("{prefix}{lock}") },
        };
        let token = Uuid::new_v4().simple().to_string();
        Self { link, options, keys, token, holds_lock: false, unreadable: HashSet::new() }
    }

    fn key_of(&self, name: &str) -> String {
        format!("{}{name}", self.options.key_prefix)
    }

    /// Sends the commands and reads the replies to all of them.
    async fn replies<T: FromRedisValue>(&self, commands: &mut Pipeline) -> Result<T, StoreError> {
        let replies = self.link.call(commands).await?;
        Ok(redis::from_redis_value(redis::Value::Array(replies))?)
    }

    async fn reply<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StoreError> {
        let (reply,) = self.replies(pipe().add_command(command)).await?;
        Ok(reply)
    }

    /// Carries the commands out, all or none.
    async fn carry_out(&self, commands: &mut Pipeline) -> Result<(), StoreError> {
        if !commands.is_empty() {
            self.link.call(commands.atomic()).await?;
        }
        Ok(())
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

    async fn load(&self, keys: &[String]) -> Result<Vec<Loaded>, StoreError> {
        let mut commands = pipe();
        for key in keys {
            commands.hget(key, "definition").hget(key, "meta");
        }
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let texts: Vec<Option<String>> = self.replies(&mut commands).await?;
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
    async fn forget_others(&self, configured: &[Entry]) -> Result<(), StoreError> {
        let known: Vec<String> = self.reply(Cmd::smembers(&self.keys.statics)).await?;
        let others = known.iter().filter(|name| !configured.iter().any(|entry| entry.name == **name));
        let mut commands = pipe();
        for name in others {
            let key = self.key_of(name);
            commands.zrem(&self.keys.schedule, &key).del(&key);
            commands.srem(&self.keys.statics, name).hdel(&self.keys.pending, name);
        }
        self.carry_out(&mut commands).await
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
            let mut extend = scripts::call(scripts::EXTEND, &[&self.keys.lock]);
            extend.arg(&self.token).arg(self.lock_timeout_ms());
            if self.reply(extend).await? {
                return Ok(Standing::Leader);
            }
            self.holds_lock = false;
        }
        let mut take = cmd("SET");
        take.arg((&self.keys.lock, &self.token, "NX", "PX", self.lock_timeout_ms()));
        self.holds_lock = self.reply::<Option<String>>(take).await?.is_some();
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
        let mut commands = pipe();
        for ((configured, key), stored) in configured.iter().zip(&keys).zip(stored) {
            let mut entry = configured.clone();
            entry.last_run_at = Some(entry.last_run_at.unwrap_or(now));
            match stored {
                Loaded::Entry(stored) => {
                    entry.remember(stored.last_run_at, stored.total_run_count);
                    // Who disabled an entry in Redis wants it to stay so.
                    entry.enabled &= stored.enabled;
                }
                Loaded::Unreadable(..) => drop(commands.hdel(key, "meta")),
                Loaded::Missing(_) => {}
            }
            commands.hset(key, "definition", entry.definition().to_string());
            commands.hset_nx(key, "meta", self.meta(&entry).to_string());
            commands.zadd(&self.keys.schedule, key, score(entry.next_look(now, terms)));
            commands.sadd(&self.keys.statics, &entry.name);
        }
        self.carry_out(&mut commands).await
    }

    async fn look(&mut self, now: DateTime<Utc>, horizon: Duration) -> Result<Look, StoreError> {
        let (from, to) = (score(now), score(now + horizon));
        let mut commands = pipe();
        commands.atomic().zrangebyscore(&self.keys.schedule, 0, &from);
        commands.zrangebyscore_limit_withscores(&self.keys.schedule, format!("({from}"), to, 0, 1);
        let (due, next): (Vec<String>, Vec<(String, f64)>) = self.replies(&mut commands).await?;
        let mut entries = Vec::new();
        for loaded in self.load(&due).await? {
            match loaded {
                Loaded::Entry(entry) => entries.push(*entry),
                Loaded::Missing(key) => {
                    warn!("entry {key} is in the schedule but does not exist; it is taken out");
                    self.reply::<()>(Cmd::zrem(&self.keys.schedule, &key)).await?;
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
        let mut again = cmd("ZADD");
        again.arg((&self.keys.schedule, "XX", score(next), self.key_of(&entry.name)));
        self.reply(again).await
    }

    async fn record(
        &mut self,
        entry: &Entry,
        next: DateTime<Utc>,
        run: &Run,
    ) -> Result<Recorded, StoreError> {
        let token = if self.options.lock_key.is_some() { self.token.as_str() } else { "" };
        let Keys { schedule, pending, lock, .. } = &self.keys;
        let mut record =
            scripts::call(scripts::RECORD, &[lock, &self.key_of(&entry.name), schedule, pending]);
        record.arg(token).arg(self.meta(entry).to_string()).arg(score(next));
        record.arg(&entry.name).arg(json!(run).to_string());
        let outcome: u8 = self.reply(record).await?;
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
        let texts: Vec<String> = self.reply(Cmd::hvals(&self.keys.pending)).await?;
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
        let mut strike_off = scripts::call(scripts::STRIKE_OFF, &[&self.keys.pending]);
        strike_off.arg(&run.entry).arg(run.id.to_string());
        self.reply(strike_off).await
    }

    async fn release(&mut self) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.holds_lock) {
            return Ok(());
        }
        let mut release = scripts::call(scripts::RELEASE, &[&self.keys.lock]);
        release.arg(&self.token);
        self.reply(release).await
    }
}

/// A point in time as the score of `redbeat::schedule`: Unix seconds. RedBeat cuts fractions off; it reads them.
fn score(time: DateTime<Utc>) -> String {
    format!("{}.{:06}", time.timestamp(), time.timestamp_subsec_micros())
}
