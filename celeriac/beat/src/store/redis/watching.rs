//! What may happen to the schedule while a beat leads: entries vanish, others edit them, the clock is put back.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use log::warn;
use redis::{Cmd, pipe};
use serde_json::{Value, json};

use super::layout::{AT_A_TIME, Stored, Unusable, score, time_of};
use super::{Listed, RedisStore, StoreError, scripts};
use crate::entry::{Entry, History};
use crate::schedule::Terms;

/// How many entries are checked at each heartbeat; the others have their turn at the next ones.
const CHECKED: usize = 200;

/// How much earlier than its score an entry must be due to be looked at earlier: RedBeat's scores are whole seconds.
const EARLIER: TimeDelta = TimeDelta::seconds(1);

/// Where the checks have got to.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The next configured entry to be looked for.
    configured: usize,
    /// The next ranks to be read of RedBeat's schedule and of celeriac's own.
    ranks: [isize; 2],
    /// How many configured entries were recorded at the last check.
    recorded: Option<usize>,
    /// How many there were when it was last looked whether others have written some.
    foreign: usize,
    /// Whether an entry is known to have vanished.
    pub(super) has_vanished: bool,
}

impl RedisStore {
    /// Whether an entry is one of the configured ones.
    pub(super) fn is_configured(&self, key: &str) -> bool {
        self.configured.contains(self.keys.name(key))
    }

    /// Writes configured entries anew that have vanished. Some are looked for at each heartbeat; all of them, if the record
    /// of configured entries has another size than before or one of them has vanished.
    pub(super) async fn restore_vanished(
        &mut self,
        now: DateTime<Utc>,
        terms: &Terms,
    ) -> Result<(), StoreError> {
        let recorded: usize = self.reply(Cmd::scard(&self.keys.statics)).await?;
        let is_changed = self.watch.recorded.replace(recorded).is_some_and(|before| before != recorded);
        let is_known = is_changed || std::mem::take(&mut self.watch.has_vanished);
        if self.watch.foreign != recorded {
            self.tell_foreign(recorded).await?;
            self.watch.foreign = recorded;
        }
        let part = self.configured.part(self.watch.configured, CHECKED);
        let end = self.watch.configured + part.len();
        self.watch.configured = if end >= self.configured.len() { 0 } else { end };
        let mut vanished = Vec::new();
        if is_known || !self.vanished(part).await?.is_empty() {
            for at in (0..self.configured.len()).step_by(CHECKED) {
                vanished.extend(self.vanished(self.configured.part(at, CHECKED)).await?);
            }
        }
        if vanished.is_empty() {
            return Ok(());
        }
        let shown = vanished.iter().take(5).map(|entry| entry.name.as_str()).collect::<Vec<_>>().join(", ");
        warn!(
            "{} configured entries have vanished from the schedule and are written anew: {shown}\nhint: was the database \
             flushed or evicted, or has a beat of another configuration used the prefix {:?}?",
            vanished.len(),
            self.options.key_prefix
        );
        for part in vanished.chunks(AT_A_TIME.unsigned_abs()) {
            // As if they had never been recorded: what is left of them is kept.
            self.write(part.to_vec(), &HashSet::new(), &HashSet::new(), now, terms).await?;
            if !self.still_leads(now).await? {
                return Ok(());
            }
        }
        self.watch.recorded = None;
        Ok(())
    }

    async fn vanished(&self, entries: Vec<Entry>) -> Result<Vec<Entry>, StoreError> {
        if entries.is_empty() {
            return Ok(entries);
        }
        let keys = &self.keys;
        let own = keys.entry("", false);
        let names = [&keys.statics, &keys.schedule, &keys.own_schedule, &own];
        let mut script = scripts::call(scripts::VANISHED, &names.map(String::as_str));
        for entry in &entries {
            script.arg(&entry.name).arg(keys.entry(&entry.name, entry.is_redbeat()));
        }
        let places: HashSet<usize> = self.reply(script).await?;
        Ok(entries
            .into_iter()
            .enumerate()
            .filter(|(at, _)| places.contains(at))
            .map(|(_, entry)| entry)
            .collect())
    }

    /// Says that somebody else's configured entries stand under the prefix.
    async fn tell_foreign(&self, recorded: usize) -> Result<(), StoreError> {
        if recorded <= self.configured.len() {
            return Ok(());
        }
        let statics: Vec<String> = self.reply(Cmd::smembers(&self.keys.statics)).await?;
        let foreign: Vec<&str> =
            statics.iter().map(String::as_str).filter(|name| !self.configured.contains(name)).collect();
        if !foreign.is_empty() {
            warn!(
                "a beat of another configuration uses the prefix {:?} too: {} is not configured here\nhint: give one of \
                 them another redbeat_key_prefix",
                self.options.key_prefix,
                foreign.iter().take(5).copied().collect::<Vec<_>>().join(", ")
            );
        }
        Ok(())
    }

    /// Looks earlier at entries that are due earlier than the schedule says: RedBeat puts an entry off when it is saved
    /// again, and whoever writes a definition by hand leaves the schedule as it is.
    pub(super) async fn notice_edits(&mut self, now: DateTime<Utc>, terms: &Terms) -> Result<(), StoreError> {
        for which in [0, 1] {
            let schedule = [&self.keys.schedule, &self.keys.own_schedule][which].clone();
            let found = self.slice(&schedule, self.watch.ranks[which], CHECKED as isize).await?;
            let is_end = found.len() < CHECKED;
            self.watch.ranks[which] = if is_end { 0 } else { self.watch.ranks[which] + CHECKED as isize };
            let mut commands = pipe();
            for stored in found {
                let Ok(found) = stored.read(&self.keys) else { continue };
                let before = stored.score.and_then(time_of);
                let next = found.entry.next_look(now, terms);
                let is_earlier = match (next, before) {
                    (Some(next), Some(before)) => found.entry.enabled && before - next > EARLIER,
                    (Some(_), None) => true,
                    (None, _) => false,
                };
                if is_earlier {
                    commands.cmd("ZADD").arg(&schedule).arg("XX").arg(score(next)).arg(&stored.key);
                }
            }
            if !commands.is_empty() {
                self.link.call(&mut commands).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn review_all(&mut self, now: DateTime<Utc>, terms: &Terms) -> Result<(), StoreError> {
        for schedule in [self.keys.schedule.clone(), self.keys.own_schedule.clone()] {
            // Ranks move as scores are written, so the members are read first.
            let keys: Vec<String> = self.reply(Cmd::zrange(&schedule, 0, -1)).await?;
            for keys in keys.chunks(AT_A_TIME.unsigned_abs()) {
                let mut read = pipe();
                for key in keys {
                    read.cmd("HMGET").arg(key).arg("definition").arg("meta");
                    read.cmd("HGET").arg(&self.keys.history).arg(key);
                }
                let replies = self.link.call(&mut read).await?;
                let mut commands = pipe();
                for (key, replies) in keys.iter().zip(replies.chunks_exact(2)) {
                    let (definition, meta) = redis::from_redis_value(replies[0].clone())?;
                    let history = redis::from_redis_value(replies[1].clone())?;
                    let stored = Stored { key: key.clone(), definition, meta, history, score: None };
                    let Ok(mut found) = stored.read(&self.keys) else { continue };
                    if found.entry.last_run_at.is_some_and(|last| last > now) {
                        found.entry.last_run_at = Some(now);
                        commands.hset(key, "meta", self.meta(&found.entry)).ignore();
                    }
                    let next = score(found.entry.next_look(now, terms));
                    commands.cmd("ZADD").arg(&schedule).arg("XX").arg(next).arg(key).ignore();
                }
                self.carry_out(&mut commands).await?;
                if !self.still_leads(now).await? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub(super) async fn read_all(&mut self) -> Result<Vec<Listed>, StoreError> {
        let mut listed = Vec::new();
        for schedule in [self.keys.schedule.clone(), self.keys.own_schedule.clone()] {
            let mut from = 0;
            loop {
                let part = self.slice(&schedule, from, AT_A_TIME).await?;
                from += AT_A_TIME;
                let is_end = part.len() < AT_A_TIME.unsigned_abs();
                for stored in part {
                    match stored.read(&self.keys) {
                        Ok(found) => listed.push(Listed {
                            next: stored.score.and_then(time_of),
                            entry: found.entry,
                            history: found.history,
                        }),
                        Err(Unusable::Unreadable(reason)) => self.tell_unreadable(&stored.key, &reason),
                        Err(Unusable::Missing) => {}
                    }
                }
                if is_end {
                    break;
                }
            }
        }
        listed.sort_by(|one, other| one.entry.name.cmp(&other.entry.name));
        Ok(listed)
    }

    pub(super) async fn switch(&mut self, name: &str, enabled: bool) -> Result<bool, StoreError> {
        for key in [self.keys.entry(name, true), self.keys.entry(name, false)] {
            let definition: Option<String> = self.reply(Cmd::hget(&key, "definition")).await?;
            let Some(mut definition) =
                definition.and_then(|definition| serde_json::from_str::<Value>(&definition).ok())
            else {
                continue;
            };
            definition["enabled"] = json!(enabled);
            let mut commands = pipe();
            commands.hset(&key, "definition", definition.to_string());
            if enabled {
                self.forget_trouble(&key, &mut commands).await?;
            }
            // The beat that leads looks at it at once, and says then when it runs.
            commands.cmd("ZADD").arg(self.keys.schedule_of(&key)).arg(score(Some(Utc::now()))).arg(&key);
            self.carry_out(&mut commands).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Lets an entry that is switched on again begin without the failures for which it was paused.
    async fn forget_trouble(&self, key: &str, commands: &mut redis::Pipeline) -> Result<(), StoreError> {
        let history: Option<String> = self.reply(Cmd::hget(&self.keys.history, key)).await?;
        let history = history.and_then(|text| serde_json::from_str::<History>(&text).ok());
        if let Some(history) = history {
            let history = History { trouble: None, failures: 0, ..history };
            commands.hset(&self.keys.history, key, json!(history).to_string());
        }
        Ok(())
    }
}
