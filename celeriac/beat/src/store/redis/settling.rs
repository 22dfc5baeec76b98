//! A tick: what is due, and writing what became of it.

use std::time::Duration;

use celeriac::broker::BrokerError;
use chrono::{DateTime, TimeDelta, Utc};
use log::{error, warn};
use redis::{Cmd, Value as Reply, pipe};
use serde_json::json;

use super::layout::{Unusable, history_text, score, time_of};
use super::{Change, Look, RedisStore, Settled, StoreError, layout, scripts};
use crate::client::{failure, signature};
use crate::entry::Run;
use crate::publish::PublishError;

/// How many entries are looked at in one go.
const AT_A_TIME: usize = 1000;

/// How many changes are written in one go: other users of the server wait as long as that takes.
const WRITTEN_AT_A_TIME: usize = 100;

/// Time after which an entry that cannot be read is looked at again.
const UNREADABLE: TimeDelta = TimeDelta::seconds(60);

impl RedisStore {
    pub(super) async fn due(&mut self, now: DateTime<Utc>, horizon: Duration) -> Result<Look, StoreError> {
        let keys = &self.keys;
        let mut look = scripts::call(scripts::LOOK, &[&keys.schedule, &keys.own_schedule, &keys.history]);
        look.arg(score(Some(now))).arg(score(Some(now + horizon))).arg(AT_A_TIME);
        let (found, next): (Vec<layout::Stored>, Option<f64>) = self.reply(look).await?;
        let has_more = found.len() >= AT_A_TIME;
        let mut entries = Vec::with_capacity(found.len());
        let mut put_off = pipe();
        let mut vanished = Vec::new();
        for stored in found {
            match stored.read(&self.keys) {
                Ok(found) => entries.push(found),
                Err(Unusable::Missing) => vanished.push(stored.key),
                Err(Unusable::Unreadable(reason)) => {
                    self.tell_unreadable(&stored.key, &reason);
                    let later = score(Some(now + UNREADABLE));
                    let schedule = self.keys.schedule_of(&stored.key);
                    put_off.cmd("ZADD").arg(schedule).arg("XX").arg(later).arg(&stored.key);
                }
            }
        }
        for key in vanished {
            if self.is_configured(&key) {
                // It is written anew by the next check.
                self.watch.has_vanished = true;
                let schedule = self.keys.schedule_of(&key);
                put_off
                    .cmd("ZADD")
                    .arg(schedule)
                    .arg("XX")
                    .arg(score(Some(now + TimeDelta::seconds(1))))
                    .arg(&key);
                continue;
            }
            warn!("entry {key} is in the schedule but does not exist; it is taken out");
            put_off.cmd("ZREM").arg(self.keys.schedule_of(&key)).arg(&key);
        }
        if !put_off.is_empty() {
            self.link.call(&mut put_off).await?;
        }
        Ok(Look { entries, next: next.and_then(time_of), has_more })
    }

    pub(super) async fn settle_all(&mut self, changes: &[Change]) -> Result<Vec<Settled>, StoreError> {
        let mut settled = Vec::with_capacity(changes.len());
        for changes in changes.chunks(WRITTEN_AT_A_TIME) {
            self.settle_some(changes, &mut settled).await?;
        }
        Ok(settled)
    }

    async fn settle_some(
        &mut self,
        changes: &[Change],
        settled: &mut Vec<Settled>,
    ) -> Result<(), StoreError> {
        let mut prepared: Vec<Result<Vec<Vec<Vec<u8>>>, PublishError>> = Vec::with_capacity(changes.len());
        for change in changes {
            prepared.push(self.messages(&change.runs).await);
        }
        let script = self.script(changes, &prepared);
        let outcomes: Vec<Reply> = match prepared.iter().any(Result::is_ok) {
            true => self.reply(script).await?,
            false => Vec::new(),
        };
        let mut outcomes = outcomes.into_iter();
        for prepared in prepared {
            settled.push(match prepared {
                Err(refused) => Settled::Refused(refused),
                Ok(_) => self.outcome(outcomes.next().unwrap_or(Reply::Int(scripts::NOT_LEADER))),
            });
        }
        Ok(())
    }

    fn script(&self, changes: &[Change], prepared: &[Result<Vec<Vec<Vec<u8>>>, PublishError>]) -> Cmd {
        let keys = &self.keys;
        let own = keys.entry("", false);
        let names = [&keys.lock, &keys.schedule, &keys.own_schedule, &keys.history, &keys.pending, &own];
        let mut script = scripts::call(scripts::SETTLE, &names.map(String::as_str));
        let count = prepared.iter().filter(|prepared| prepared.is_ok()).count();
        script.arg(self.lock_token()).arg(self.lock_timeout_ms()).arg(count);
        for (change, prepared) in changes.iter().zip(prepared) {
            let Ok(commands) = prepared else { continue };
            let Change { entry, history, runs, next } = change;
            script.arg(keys.entry(&entry.name, entry.is_redbeat())).arg(self.meta(entry)).arg(score(*next));
            script.arg(history_text(history)).arg(commands.len());
            for command in commands {
                script.arg(command.len()).arg(command);
            }
            let pending: &[Run] = if self.sender.is_some() { &[] } else { runs };
            script.arg(pending.len());
            for run in pending {
                script.arg(run.id.to_string()).arg(json!(run).to_string());
            }
        }
        script
    }

    /// The commands that send runs, where this store does.
    async fn messages(&self, runs: &[Run]) -> Result<Vec<Vec<Vec<u8>>>, PublishError> {
        let Some(app) = &self.sender else { return Ok(Vec::new()) };
        let mut commands = Vec::with_capacity(runs.len());
        for run in runs {
            commands.extend(app.prepare(signature(run)).await.map_err(failure)?);
        }
        Ok(commands)
    }

    fn outcome(&mut self, outcome: Reply) -> Settled {
        match outcome {
            Reply::Int(scripts::DONE) => Settled::Done,
            Reply::Int(scripts::GONE) => Settled::Gone,
            Reply::Int(_) => {
                self.holds_lock = false;
                Settled::NotLeader
            }
            other => {
                let reason = redis::from_redis_value::<String>(other).unwrap_or_default();
                let url = self.link.endpoint().to_string();
                let refused = BrokerError::Refused { url, command: "a run of beat".to_owned(), reason };
                Settled::Refused(failure(refused.into()))
            }
        }
    }

    pub(super) async fn read_pending(&self) -> Result<Vec<Run>, StoreError> {
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
}
