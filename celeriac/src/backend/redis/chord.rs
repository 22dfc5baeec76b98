//! Counting the parts of a chord.
//!
//! Source: celery 5.7 `RedisBackend.on_chord_part_return`; transcripts `vectors/monitor/chord_completion.txt`.

use std::time::Duration;

use redis::{Cmd, Pipeline, Value as Reply, cmd};

use super::RedisBackend;
use super::chord_scripts::{CLEAN, EXTEND, FAIL, OVERDUE, PART, PUT_OFF, RECLAIM, RENEW, SIZE};
use crate::backend::{
    BackendError, ChordPart, Freshness, GroupChange, PartAnswer, Reclaimed, Returned, TaskState,
};
use crate::broker::Answers;
use crate::broker::redis::{eval, texts};
use crate::heavy::{LARGE, aside};
use crate::message::Value;

/// How long a claim lasts while its owner publishes the body, in seconds (kombu's publish retries and a margin).
const PUBLISH_SECONDS: u64 = 21;
/// How long nothing may be heard of a chord without a size until that counts as gone, in seconds. Its counters may expire
/// sooner: it can never be complete then.
const SIZE_SECONDS: u64 = 30;
/// How long the parts of a chord that has no size are kept if results do not expire, in seconds.
const STRAY_SECONDS: u64 = 86_400;
/// How long a registered chord that cannot be gone on with is left alone, in seconds.
const PUT_OFF_SECONDS: u64 = 300;
/// Longest time between two renewals of counters.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// Most chords that one command renews.
const RENEW_BATCH: usize = 100;

impl RedisBackend {
    /// The command that sets a chord's size before its last header task is sent.
    pub(crate) fn chord_size_command(&self, group_id: &str, size: u64) -> Cmd {
        let keys = [".c", ".s"].map(|suffix| self.group_key(group_id, suffix));
        let (size, expires) = (size.to_string(), self.chord_expires.to_string());
        eval(SIZE, &keys.each_ref(), &[size.as_bytes(), expires.as_bytes()])
    }

    /// The command that adds parts to a running chord (`Task.add_to_chord`).
    pub(crate) fn chord_grow_command(&self, group_id: &str, by: i64) -> Cmd {
        let mut grow = cmd("INCRBY");
        grow.arg(self.group_key(group_id, ".t")).arg(by);
        grow
    }

    /// The command that returns a part; `token` claims the chord if this part completes it, and `completing` is what
    /// another worker then needs to go on in place of this one, nothing if that is not known; `freshness` tells whether it
    /// may be a late copy.
    pub(crate) fn chord_part_command(
        &self,
        part: &ChordPart,
        token: &str,
        completing: &[u8],
        freshness: Freshness,
    ) -> Cmd {
        let id = &part.group_id;
        let [parts, more, size, members, group, claim, first] =
            [".j", ".t", ".s", ".d", "", ".c", ".b"].map(|suffix| self.group_key(id, suffix));
        let [registered, completed_by] = self.registered_keys();
        let keys = [parts, more, size, members, group, claim, registered, completed_by, first];
        let index = part.group_index.map_or_else(|| "+inf".to_owned(), |index| index.to_string());
        let encoded = self.records.encoding.encode(part.encode()).unwrap_or_else(|_| part.encode());
        let group_expires = self.chord_expires.max(self.expires);
        let arguments: [&[u8]; 13] = [
            part.task_id.as_bytes(),
            &encoded,
            if self.ordered { b"1" } else { b"0" },
            index.as_bytes(),
            &self.chord_expires.to_string().into_bytes(),
            &group_expires.to_string().into_bytes(),
            &self.claim_seconds().to_string().into_bytes(),
            token.as_bytes(),
            id.as_bytes(),
            completing,
            match freshness {
                Freshness::Fresh => b"fresh",
                Freshness::Stale => b"stale",
                Freshness::Redelivered => b"redelivered",
            },
            &self.size_seconds().to_string().into_bytes(),
            &STRAY_SECONDS.to_string().into_bytes(),
        ];
        eval(PART, &keys.each_ref(), &arguments)
    }

    /// The commands that change what is kept of a group.
    pub(crate) fn change_commands(&self, change: &GroupChange) -> Vec<Cmd> {
        match change {
            GroupChange::Size { group_id, size } => vec![self.chord_size_command(group_id, *size as u64)],
            GroupChange::Grow { group_id, by } => vec![self.chord_grow_command(group_id, *by as i64)],
            GroupChange::Failed { group_id } => vec![self.chord_fail_command(group_id)],
            GroupChange::Save(group) => self.save_group_commands(group),
        }
    }

    /// Reads the last `count` replies, which are to [`RedisBackend::chord_part_command`].
    pub(crate) fn part_answers(answers: Answers, count: usize) -> Vec<Option<PartAnswer>> {
        let replies = answers.into_replies();
        let first = replies.len().saturating_sub(count);
        let mut parts: Vec<_> = replies[first..].iter().map(|reply| Some(Self::part_answer(reply))).collect();
        parts.resize(count, None);
        parts
    }

    fn part_answer(reply: &Reply) -> PartAnswer {
        let Reply::Array(fields) = reply else { return PartAnswer::UNKNOWN };
        PartAnswer {
            claimed: fields.get(3) == Some(&Reply::Int(1)),
            has_size: fields.get(2) != Some(&Reply::Nil),
            completing: match fields.get(4) {
                Some(Reply::BulkString(completing)) => completing.clone(),
                _ => Vec::new(),
            },
        }
    }

    /// The parts of a chord that have returned, in the order of its header.
    ///
    /// # Errors
    /// [`BackendError`] when the server cannot be reached or refuses the command, [`BackendError::Unreadable`] when a part cannot be read.
    pub(crate) async fn returned_parts(&self, group_id: &str) -> Result<Vec<Returned>, BackendError> {
        let list = self.group_key(group_id, ".j");
        let mut read = Pipeline::new();
        read.cmd(if self.ordered { "ZRANGE" } else { "LRANGE" }).arg(list).arg(0).arg(-1);
        let replies = self.link.call(&mut read).await?;
        let Some(Reply::Array(parts)) = replies.first() else { return Ok(Vec::new()) };
        let bytes: usize =
            parts.iter().map(|part| if let Reply::BulkString(text) = part { text.len() } else { 0 }).sum();
        let decode = || parts.iter().filter_map(|part| self.returned(group_id, part)).collect();
        if bytes > LARGE { aside(decode) } else { decode() }
    }

    fn returned(&self, group_id: &str, part: &Reply) -> Option<Result<Returned, BackendError>> {
        let Reply::BulkString(text) = part else { return None };
        let fields = match self.records.encoding.decode(text) {
            Ok(Value::List(fields)) => fields,
            Ok(_) => return None,
            Err(error) => return Some(Err(BackendError::unreadable(group_id)(error))),
        };
        let [_, task_id, state, result] = <[Value; 4]>::try_from(fields).ok()?;
        let state = state.as_str().map_or(TaskState::Pending, TaskState::from_name);
        Some(Ok(Returned { task_id: task_id.as_str().unwrap_or_default().to_owned(), state, result }))
    }

    /// Keeps a claim for longer; `false` when another worker has it now.
    pub(crate) async fn extend_claim(&self, group_id: &str, token: &str) -> Result<bool, BackendError> {
        let replies = self.run(vec![self.extend_claim_command(group_id, token)]).await?;
        Ok(replies[0] == Reply::Int(1))
    }

    /// The command that keeps a claim; it answers 0 when another worker has it now.
    pub(crate) fn extend_claim_command(&self, group_id: &str, token: &str) -> Cmd {
        let [claim, size] = [".c", ".s"].map(|suffix| self.group_key(group_id, suffix));
        let [registered, _] = self.registered_keys();
        let seconds = PUBLISH_SECONDS.max(self.claim_seconds()).to_string();
        let arguments: [&[u8]; 3] = [token.as_bytes(), seconds.as_bytes(), group_id.as_bytes()];
        eval(EXTEND, &[&claim, &size, &registered], &arguments)
    }

    /// The command that ends a chord whose body is sent in the same transaction.
    pub(crate) fn chord_clean_command(&self, group_id: &str, token: &str) -> Cmd {
        let arguments: [&[u8]; 3] = [token.as_bytes(), &self.done_seconds(), group_id.as_bytes()];
        eval(CLEAN, &self.ended_keys(group_id).each_ref(), &arguments)
    }

    /// The command that ends a chord that failed: a late copy of a part does not fail it again.
    pub(crate) fn chord_fail_command(&self, group_id: &str) -> Cmd {
        let gone = STRAY_SECONDS.max(self.chord_expires).to_string();
        let expires = self.chord_expires.to_string();
        let arguments: [&[u8]; 4] =
            [group_id.as_bytes(), &self.done_seconds(), gone.as_bytes(), expires.as_bytes()];
        eval(FAIL, &self.ended_keys(group_id).each_ref(), &arguments)
    }

    /// The keys that tell of a chord.
    fn ended_keys(&self, group_id: &str) -> [String; 8] {
        let [claim, parts, more, size, members, first] =
            [".c", ".j", ".t", ".s", ".d", ".b"].map(|suffix| self.group_key(group_id, suffix));
        let [registered, completed_by] = self.registered_keys();
        [claim, parts, more, size, members, registered, completed_by, first]
    }

    /// The registered chords whose claim has ended, or of whose size nothing was heard.
    pub(crate) async fn overdue_chords(&self) -> Result<Vec<String>, BackendError> {
        let [registered, _] = self.registered_keys();
        Ok(texts(&self.run(vec![eval(OVERDUE, &[&registered], &[])]).await?[0]))
    }

    /// Lets a registered chord be overdue only later.
    pub(crate) async fn put_off_chord(&self, group_id: &str) -> Result<(), BackendError> {
        let [registered, _] = self.registered_keys();
        let seconds = PUT_OFF_SECONDS.to_string();
        let command = eval(PUT_OFF, &[&registered], &[group_id.as_bytes(), seconds.as_bytes()]);
        self.run(vec![command]).await.map(drop)
    }

    /// Returns how many chords are registered: only a celeriac worker goes on with them.
    ///
    /// # Errors
    /// [`BackendError::Connection`], [`BackendError::Timeout`] and [`BackendError::Refused`].
    pub(crate) async fn unsent_chords(&self) -> Result<u64, BackendError> {
        let [registered, _] = self.registered_keys();
        let replies = self.link.call(Pipeline::new().cmd("ZCARD").arg(registered)).await?;
        Ok(if let Reply::Int(count) = replies[0] { u64::try_from(count).unwrap_or(0) } else { 0 })
    }

    /// Claims an overdue chord and returns what is known of it; `None` when somebody else is at it, or nothing is left to
    /// do.
    pub(crate) async fn reclaim_chord(
        &self,
        group_id: &str,
        token: &str,
    ) -> Result<Option<Reclaimed>, BackendError> {
        let [claim, parts, more, size, _, registered, completed_by, first] = self.ended_keys(group_id);
        let keys = [claim, size, registered, completed_by, parts, more, first];
        let (claim_seconds, size_seconds) =
            (self.claim_seconds().to_string(), self.size_seconds().to_string());
        let arguments: [&[u8]; 5] = [
            group_id.as_bytes(),
            token.as_bytes(),
            claim_seconds.as_bytes(),
            if self.ordered { b"1" } else { b"0" },
            size_seconds.as_bytes(),
        ];
        let reply = self.run(vec![eval(RECLAIM, &keys.each_ref(), &arguments)]).await?.pop();
        let Some(Reply::Array(fields)) = reply else { return Ok(None) };
        let is_gone = fields.get(1) == Some(&Reply::Int(1));
        let completing = match fields.into_iter().next() {
            Some(Reply::BulkString(completing)) => completing,
            _ => Vec::new(),
        };
        Ok(Some(Reclaimed { completing, is_gone }))
    }

    /// How often the counters of chords are to be renewed while parts run; `None` when they do not expire.
    pub(crate) fn renewal(&self) -> Option<Duration> {
        (self.chord_expires > 0).then(|| (Duration::from_secs(self.chord_expires) / 3).min(RENEW_EVERY))
    }

    /// Keeps the counters of these chords from expiring, as far as there are any.
    pub(crate) async fn renew_chords(&self, group_ids: &[String]) -> Result<(), BackendError> {
        let (expires, group_expires) =
            (self.chord_expires.to_string(), self.chord_expires.max(self.expires).to_string());
        for group_ids in group_ids.chunks(RENEW_BATCH) {
            let keys: Vec<String> = group_ids
                .iter()
                .flat_map(|id| [".s", ".j", ".t", ".d", ".b", ""].map(|suffix| self.group_key(id, suffix)))
                .collect();
            let keys: Vec<&String> = keys.iter().collect();
            let arguments: [&[u8]; 2] = [expires.as_bytes(), group_expires.as_bytes()];
            self.run(vec![eval(RENEW, &keys, &arguments)]).await?;
        }
        Ok(())
    }

    /// The sorted set of registered chords by the time at which to look at them, and the hash of the parts from which to
    /// go on.
    fn registered_keys(&self) -> [String; 2] {
        ["celeriac.chords", "celeriac.chords.completing"].map(|name| format!("{}{name}", self.prefix))
    }

    /// How long a missing result of a part is waited for.
    pub(crate) fn join_timeout(&self) -> Duration {
        self.join_timeout
    }

    fn claim_seconds(&self) -> u64 {
        (self.join_timeout.as_secs() * 2).max(5)
    }

    /// How long it is remembered that a chord is done.
    fn done_seconds(&self) -> Vec<u8> {
        (self.claim_seconds() * 2).max(300).to_string().into_bytes()
    }

    fn size_seconds(&self) -> u64 {
        if self.chord_expires > 0 { SIZE_SECONDS.min(self.chord_expires) } else { SIZE_SECONDS }
    }
}
