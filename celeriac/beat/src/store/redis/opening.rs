//! Taking over the schedule: the configured entries are put beside what is stored.
//!
//! Of a configured entry the definition is that of the configuration, `meta` that of the store. Whether it is enabled is
//! said by whoever changed it last: the configuration, if it says something else than when it was last written, else the store.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use log::{info, warn};
use redis::{Cmd, pipe};
use serde_json::Value;

use super::layout::{AT_A_TIME, Stored, history_text, score, time_of};
use super::{RedisStore, StoreError};
use crate::configured::Configured;
use crate::entry::{Entry, History};
use crate::schedule::Terms;

/// A clock that is put back by less than this is not worth a word.
const TOLERANCE: TimeDelta = TimeDelta::seconds(1);

impl RedisStore {
    pub(super) async fn take_over(&mut self, now: DateTime<Utc>, terms: &Terms) -> Result<(), StoreError> {
        let configured = Arc::clone(&self.configured);
        self.unreadable.clear();
        let (statics, off, clock): (HashSet<String>, HashSet<String>, Option<i64>) = {
            let mut read = pipe();
            read.smembers(&self.keys.statics).smembers(&self.keys.off).hget(&self.keys.leader, "clock");
            self.replies(&mut read).await?
        };
        self.forget_others(&statics, &configured).await?;
        let mut at = 0;
        while at < configured.len() {
            let part = configured.part(at, AT_A_TIME.unsigned_abs());
            at += AT_A_TIME.unsigned_abs();
            self.write(part, &statics, &off, now, terms).await?;
            if !self.still_leads(now).await? {
                // Whoever leads now writes them.
                return Ok(());
            }
        }
        let clock = clock.and_then(DateTime::from_timestamp_millis);
        if let Some(clock) = clock.filter(|clock| *clock - now > TOLERANCE) {
            warn!(
                "the clock is {:.1} s behind that of the beat that led before; last runs that lie in the future are taken as runs of now",
                (clock - now).as_seconds_f64()
            );
            self.review_all(now, terms).await?;
        }
        Ok(())
    }

    /// Writes configured entries, as far as they are not stored like this already.
    pub(super) async fn write(
        &mut self,
        configured: Vec<Entry>,
        statics: &HashSet<String>,
        off: &HashSet<String>,
        now: DateTime<Utc>,
        terms: &Terms,
    ) -> Result<(), StoreError> {
        let mut read = pipe();
        let keys: Vec<String> =
            configured.iter().map(|entry| self.keys.entry(&entry.name, entry.is_redbeat())).collect();
        for key in &keys {
            read.cmd("HMGET").arg(key).arg("definition").arg("meta");
            read.cmd("HGET").arg(&self.keys.history).arg(key);
            read.cmd("ZSCORE").arg(self.keys.schedule_of(key)).arg(key);
        }
        for entry in &configured {
            // Under the other key, if what bounds its runs has come or gone since.
            read.cmd("HGET").arg(self.keys.entry(&entry.name, !entry.is_redbeat())).arg("meta");
        }
        let replies = self.link.call(&mut read).await?;
        let mut commands = pipe();
        let (replies, others) = replies.split_at(configured.len() * 3);
        let found = replies.chunks_exact(3).zip(others);
        for ((mut entry, key), (replies, other)) in configured.into_iter().zip(keys).zip(found) {
            let fields: (Option<String>, Option<String>) = redis::from_redis_value(replies[0].clone())?;
            let history: Option<String> = redis::from_redis_value(replies[1].clone())?;
            let before: Option<f64> = redis::from_redis_value(replies[2].clone())?;
            let other: Option<String> = redis::from_redis_value(other.clone())?;
            let is_known = statics.contains(&entry.name);
            let is_moved = fields.1.is_none() && other.is_some();
            if is_known && fields.0.is_none() && before.is_none() && other.is_none() {
                info!(
                    "entry {:?} was deleted from the schedule and stays so while it is configured",
                    entry.name
                );
                continue;
            }
            let stored = Stored {
                key,
                definition: fields.0,
                meta: fields.1.or(other.clone()),
                history,
                score: before,
            };
            let is_off = off.contains(&entry.name);
            self.put(&mut entry, &stored, is_off, now, terms, &mut commands);
            if is_moved {
                commands.hset_nx(&stored.key, "meta", self.meta(&entry)).ignore();
            }
            if other.is_some() {
                let other = self.keys.entry(&entry.name, !entry.is_redbeat());
                commands.cmd("ZREM").arg(self.keys.schedule_of(&other)).arg(&other).ignore();
                commands.del(&other).ignore();
            }
            if !is_known {
                commands.sadd(&self.keys.statics, &entry.name).ignore();
            }
        }
        self.carry_out(&mut commands).await
    }

    /// The commands that put a configured entry in the place of what is stored.
    fn put(
        &mut self,
        entry: &mut Entry,
        stored: &Stored,
        was_off: bool,
        now: DateTime<Utc>,
        terms: &Terms,
        commands: &mut redis::Pipeline,
    ) {
        entry.last_run_at = Some(entry.last_run_at.unwrap_or(now));
        let key = &stored.key;
        let is_off = !entry.enabled;
        if was_off != is_off {
            let command = if is_off { "SADD" } else { "SREM" };
            commands.cmd(command).arg(&self.keys.off).arg(&entry.name).ignore();
        } else if let Some(enabled) = stored_switch(stored) {
            entry.enabled = enabled;
        }
        let mut is_kept = stored.meta.is_some();
        match stored.meta() {
            Ok((last_run_at, count)) if stored.meta.is_some() => {
                let last_run_at = last_run_at.map(|last| if last - now > TOLERANCE { now } else { last });
                if last_run_at != stored.meta().ok().and_then(|meta| meta.0) {
                    warn!("the last run of {:?} lies in the future: it is taken as a run of now", entry.name);
                    commands.hdel(key, "meta").ignore();
                    is_kept = false;
                }
                entry.remember(last_run_at, count);
            }
            Ok(_) => {}
            Err(reason) => {
                self.tell_unreadable(key, &reason);
                commands.hdel(key, "meta").ignore();
                is_kept = false;
            }
        }
        let definition = entry.definition().to_string();
        if stored.definition.as_ref() != Some(&definition) {
            commands.hset(key, "definition", definition).ignore();
        }
        if !is_kept {
            commands.hset_nx(key, "meta", self.meta(entry)).ignore();
        }
        let mut history: History =
            stored.history.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let extras = entry.extras();
        if history.policy != extras {
            history.policy = extras;
            commands.hset(&self.keys.history, key, history_text(&history)).ignore();
        }
        let next = entry.next_look(now, terms);
        if stored.score.is_none() || stored.score.and_then(time_of) != next {
            commands.cmd("ZADD").arg(self.keys.schedule_of(key)).arg(score(next)).arg(key).ignore();
        }
    }

    /// Forgets entries that were configured and are no longer.
    async fn forget_others(
        &mut self,
        statics: &HashSet<String>,
        configured: &Configured,
    ) -> Result<(), StoreError> {
        let others: Vec<&String> = statics.iter().filter(|name| !configured.contains(name)).collect();
        if others.is_empty() {
            return Ok(());
        }
        let shown = others.iter().take(5).map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        info!("{} entries are no longer configured and are forgotten: {shown}", others.len());
        for names in others.chunks(AT_A_TIME.unsigned_abs()) {
            let mut commands = pipe();
            for name in names {
                for key in [self.keys.entry(name, true), self.keys.entry(name, false)] {
                    commands.zrem(self.keys.schedule_of(&key), &key).del(&key).hdel(&self.keys.history, &key);
                }
                commands.srem(&self.keys.statics, name).srem(&self.keys.off, name);
                commands.hdel(&self.keys.pending, name);
            }
            self.carry_out(&mut commands).await?;
        }
        self.forget_pending(&others.into_iter().cloned().collect()).await
    }

    /// Forgets the pending runs of entries that are gone.
    async fn forget_pending(&self, gone: &HashSet<String>) -> Result<(), StoreError> {
        let pending = self.read_pending().await?;
        let ids: Vec<String> =
            pending.iter().filter(|run| gone.contains(&run.entry)).map(|run| run.id.to_string()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        self.reply::<()>(Cmd::hdel(&self.keys.pending, ids)).await
    }
}

/// Whether the stored definition says that the entry is enabled.
fn stored_switch(stored: &Stored) -> Option<bool> {
    let definition: Value = serde_json::from_str(stored.definition.as_deref()?).ok()?;
    Some(definition.get("enabled").and_then(Value::as_bool).unwrap_or(true))
}
