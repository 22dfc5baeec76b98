//! A schedule in Redis, in RedBeat's layout: several beats, also of Python, of which one sends.
//!
//! Source: celery-redbeat 2.4.2 `schedulers.py`; samples `beat/redbeat_*.json`.

mod keys;
mod layout;
mod once;
mod opening;
mod scripts;
mod settling;
mod watching;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use celeriac::broker::BrokerError;
use celeriac::broker::redis::{Endpoint, Link, Timing};
use celeriac::{Celery, Timezone};
use chrono::{DateTime, Utc};
use log::warn;
use redis::{Cmd, FromRedisValue, Pipeline, pipe};
use uuid::Uuid;

use self::keys::Keys;
pub(crate) use self::once::send_once;
use super::{Change, Found, Listed, Look, ScheduleStore, Settled, Standing, StoreError};
use crate::configured::Configured;
use crate::entry::{Entry, Run};
use crate::schedule::Terms;

/// A lock that lasts less long would be lost in any pause.
const SHORTEST_LOCK: Duration = Duration::from_millis(500);

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
    /// The name under which other beats see this one.
    pub node: String,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            key_prefix: "redbeat:".to_owned(),
            lock_key: Some("redbeat::lock".to_owned()),
            lock_timeout: Duration::from_millis(2500),
            timezone: Timezone::UTC,
            node: format!("beat-{}", std::process::id()),
        }
    }
}

/// Keeps entries and last runs in Redis as RedBeat does: entries that Python programs add are sent, too.
pub struct RedisStore {
    link: Link,
    options: RedisOptions,
    keys: Keys,
    token: String,
    holds_lock: bool,
    /// The client whose queues are in this very database.
    sender: Option<Celery>,
    configured: Arc<Configured>,
    /// The digest of the configured entries.
    configuration: String,
    /// The digest of another beat's entries of which was told.
    told_of: String,
    /// Entries that cannot be read and were already said to be so.
    unreadable: HashSet<String>,
    watch: watching::Watch,
    /// The time at which the lock was last taken or kept.
    kept_at: Instant,
}

impl RedisStore {
    /// A store in that database; it connects when first used, and again whenever the connection is lost.
    ///
    /// Where several servers share the keys (Redis Cluster), `key_prefix` and `lock_key` need one hash tag.
    pub fn new(link: Link, options: RedisOptions) -> Self {
        let token = Uuid::new_v4().simple().to_string();
        Self {
            keys: Keys::new(&options),
            link,
            options,
            token,
            holds_lock: false,
            sender: None,
            configured: Arc::default(),
            configuration: String::new(),
            told_of: String::new(),
            unreadable: HashSet::new(),
            watch: watching::Watch::default(),
            kept_at: Instant::now(),
        }
    }

    /// The store of an application: at `redbeat_redis_url`, else at its broker, under the settings of RedBeat's names.
    ///
    /// # Errors
    /// [`BrokerError::BadUrl`] and [`BrokerError::BadTls`], and [`BrokerError::Unsupported`] when the broker is no Redis
    /// server and `redbeat_redis_url` names none.
    pub fn of_app(app: &Celery, node: String) -> Result<Self, BrokerError> {
        let config = app.config();
        let endpoint = match &config.redbeat_redis_url {
            Some(url) => Endpoint::broker(url, config)?,
            None => match app.broker().redis() {
                Some(queues) => queues.link().endpoint().clone(),
                None => {
                    return Err(BrokerError::Unsupported {
                        url: app.broker().to_string(),
                        what: "keep the schedule of beat",
                        hint: "name a Redis server with redbeat_redis_url, or choose another store",
                    });
                }
            },
        };
        let defaults = RedisOptions::default();
        let options = RedisOptions {
            key_prefix: config.redbeat_key_prefix.clone(),
            lock_key: Some(config.redbeat_lock_key.clone()).filter(|key| !key.is_empty()),
            lock_timeout: config
                .redbeat_lock_timeout
                .map_or(defaults.lock_timeout, |time| time.max(SHORTEST_LOCK)),
            timezone: config.timezone_or_utc(),
            node,
        };
        Ok(Self::new(Link::new(endpoint, Timing::broker(config)), options).sending_for(app))
    }

    /// Where the schedule is, without a password.
    pub fn place(&self) -> String {
        format!("redis at {}", self.link.endpoint())
    }

    /// The same store that sends runs itself, in the step in which it records them, if the broker of `app` is in its
    /// database (and no cluster, whose servers do not commit together).
    #[must_use]
    pub fn sending_for(mut self, app: &Celery) -> Self {
        let Some(queues) = app.broker().redis() else { return self };
        let broker = queues.link().endpoint();
        let together = broker.same_database(self.link.endpoint()) && !broker.is_cluster();
        self.sender = together.then(|| app.clone());
        self
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

    /// The token, or nothing where there is no lock.
    fn lock_token(&self) -> &str {
        if self.options.lock_key.is_some() { &self.token } else { "" }
    }

    async fn take_or_keep(&mut self, now: DateTime<Utc>) -> Result<Standing, StoreError> {
        if self.options.lock_key.is_none() {
            let before = std::mem::replace(&mut self.holds_lock, true);
            return Ok(if before { Standing::Leader } else { Standing::Elected });
        }
        if self.holds_lock && self.keep(now).await? {
            return Ok(Standing::Leader);
        }
        let mut take = scripts::call(scripts::TAKE, &[&self.keys.lock]);
        take.arg(&self.token).arg(self.lock_timeout_ms());
        let mut commands = pipe();
        commands.add_command(take);
        commands.cmd("HMGET").arg(&self.keys.leader).arg("configuration").arg("node");
        let (rest, (configuration, node)): (i64, (Option<String>, Option<String>)) =
            self.replies(&mut commands).await?;
        self.holds_lock = rest == 0;
        self.kept_at = Instant::now();
        if self.holds_lock {
            return Ok(Standing::Elected);
        }
        self.compare_with(configuration.unwrap_or_default(), &node.unwrap_or_default());
        let rest = u64::try_from(rest).map_or(self.heartbeat(), Duration::from_millis);
        Ok(Standing::StandBy(rest + Duration::from_millis(2)))
    }

    /// Keeps the lock for its whole time again; whether it is still held.
    async fn keep(&mut self, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let mut extend = scripts::call(scripts::EXTEND, &[&self.keys.lock, &self.keys.leader]);
        extend.arg(&self.token).arg(self.lock_timeout_ms()).arg(now.timestamp_millis());
        extend.arg(&self.configuration).arg(&self.options.node);
        self.holds_lock = self.reply(extend).await?;
        self.kept_at = Instant::now();
        if !self.holds_lock {
            warn!("the lock {} is lost: it ended, was deleted, or another beat has it", self.keys.lock);
        }
        Ok(self.holds_lock)
    }

    /// To be called again and again in what may take longer than the lock lasts; whether it is still held.
    async fn still_leads(&mut self, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let has_time = self.options.lock_key.is_none() || self.kept_at.elapsed() < self.heartbeat();
        Ok(has_time || self.keep(now).await?)
    }

    /// Says once that the beat that leads was configured with other entries than this one.
    fn compare_with(&mut self, configuration: String, node: &str) {
        if configuration.is_empty() || configuration == self.configuration || configuration == self.told_of {
            return;
        }
        warn!(
            "{node}, which leads, has other entries than this beat under the same prefix {:?}: those of this beat count once it \
             leads\nhint: beats of one prefix need one configuration; give other schedules another redbeat_key_prefix",
            self.options.key_prefix
        );
        self.told_of = configuration;
    }
}

impl ScheduleStore for RedisStore {
    fn configure(&mut self, configured: Arc<Configured>) {
        self.configuration = configured.digest();
        self.configured = configured;
    }

    async fn lead(&mut self, now: DateTime<Utc>) -> Result<Standing, StoreError> {
        self.take_or_keep(now).await
    }

    fn heartbeat(&self) -> Duration {
        (self.options.lock_timeout / 5).min(Duration::from_secs(1))
    }

    fn sends(&self) -> bool {
        self.sender.is_some()
    }

    async fn open(&mut self, now: DateTime<Utc>, terms: &Terms) -> Result<(), StoreError> {
        self.take_over(now, terms).await
    }

    async fn check(&mut self, now: DateTime<Utc>, terms: &Terms) -> Result<(), StoreError> {
        self.restore_vanished(now, terms).await?;
        self.notice_edits(now, terms).await
    }

    async fn review(&mut self, now: DateTime<Utc>, terms: &Terms) -> Result<(), StoreError> {
        self.review_all(now, terms).await
    }

    async fn look(&mut self, now: DateTime<Utc>, horizon: Duration) -> Result<Look, StoreError> {
        self.due(now, horizon).await
    }

    async fn reschedule(&mut self, looks: &[(&Entry, Option<DateTime<Utc>>)]) -> Result<(), StoreError> {
        let mut commands = pipe();
        for (entry, next) in looks {
            let key = self.keys.entry(&entry.name, entry.is_redbeat());
            commands
                .cmd("ZADD")
                .arg(self.keys.schedule_of(&key))
                .arg("XX")
                .arg(layout::score(*next))
                .arg(key);
        }
        if !looks.is_empty() {
            self.link.call(&mut commands).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, changes: &[Change]) -> Result<Vec<Settled>, StoreError> {
        self.settle_all(changes).await
    }

    async fn pending(&mut self) -> Result<Vec<Run>, StoreError> {
        self.read_pending().await
    }

    async fn sent(&mut self, run: &Run) -> Result<(), StoreError> {
        let mut strike_off = scripts::call(scripts::STRIKE_OFF, &[&self.keys.pending]);
        strike_off.arg(&run.entry).arg(run.id.to_string());
        self.reply(strike_off).await
    }

    async fn release(&mut self) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.holds_lock) || self.options.lock_key.is_none() {
            return Ok(());
        }
        let mut release = scripts::call(scripts::RELEASE, &[&self.keys.lock]);
        release.arg(&self.token);
        self.reply(release).await
    }

    async fn list(&mut self) -> Result<Vec<Listed>, StoreError> {
        self.read_all().await
    }

    async fn enable(&mut self, name: &str, enabled: bool) -> Result<bool, StoreError> {
        self.switch(name, enabled).await
    }
}
