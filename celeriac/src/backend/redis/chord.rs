//! Counting the parts of a chord.
//!
//! Source: celery 5.7 `RedisBackend.on_chord_part_return`; transcripts `vectors/monitor/chord_completion.txt`.

use redis::{Cmd, Pipeline, Value as Reply, cmd};

use super::RedisBackend;
use crate::backend::{ChordPart, TaskState};
use crate::broker::BrokerError;
use crate::broker::redis::{eval, texts};
use crate::message::Value;

/// Adds a part once, counts, and lets one caller claim the complete chord; what was claimed is registered, so that
/// another worker goes on when this one dies.
///
/// A late copy of a part of a chord that is done is dropped. A part that was delivered for the first time is none: the
/// frozen chord was applied again, and its size is set after its first parts are sent.
///
/// Keys: parts, difference, size, members, group, claim, claimed chords, their completing parts. Returns parts,
/// difference, size, and whether it is claimed.
const PART: &str = r"
if redis.call('GET', KEYS[6]) == 'done' then
  if ARGV[11] == '1' then return {-1, 0, 0, 0} end
  redis.call('DEL', KEYS[6])
end
local member = ARGV[1] .. ':' .. ARGV[4]
if redis.call('SADD', KEYS[4], member) == 1 then
  if ARGV[3] == '1' then redis.call('ZADD', KEYS[1], ARGV[4], ARGV[2]) else redis.call('RPUSH', KEYS[1], ARGV[2]) end
end
local count
if ARGV[3] == '1' then count = redis.call('ZCARD', KEYS[1]) else count = redis.call('LLEN', KEYS[1]) end
if tonumber(ARGV[5]) > 0 then
  for i = 1, 4 do redis.call('EXPIRE', KEYS[i], ARGV[5]) end
  if tonumber(ARGV[6]) > 0 then redis.call('EXPIRE', KEYS[5], ARGV[6]) end
end
local more = redis.call('GET', KEYS[2])
local size = redis.call('GET', KEYS[3])
local claimed = 0
if size and count == tonumber(size) + tonumber(more or 0) then
  if redis.call('SET', KEYS[6], ARGV[8], 'NX', 'EX', ARGV[7]) then
    claimed = 1
    redis.call('ZADD', KEYS[7], redis.call('TIME')[1] + ARGV[7], ARGV[9])
    redis.call('HSET', KEYS[8], ARGV[9], ARGV[10])
  end
end
return {count, more, size, claimed}";

/// Claims a registered chord whose owner is gone. Returns its completing part, or nothing when there is nothing to do.
const RECLAIM: &str = r"
if redis.call('EXISTS', KEYS[2]) == 0 or redis.call('GET', KEYS[1]) == 'done' then
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('HDEL', KEYS[4], ARGV[1])
  return false
end
if not redis.call('SET', KEYS[1], ARGV[2], 'NX', 'EX', ARGV[3]) then return false end
redis.call('ZADD', KEYS[3], redis.call('TIME')[1] + ARGV[3], ARGV[1])
return redis.call('HGET', KEYS[4], ARGV[1])";

/// The registered chords whose claim has ended.
const OVERDUE: &str =
    "return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', redis.call('TIME')[1], 'LIMIT', 0, 100)";

/// Keeps the claim for longer while the body is published.
const EXTEND: &str = r"
local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end
if not owner and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
  return 1
end
return 0";

/// Ends a chord whose body was sent.
const CLEAN: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for i = 2, 5 do redis.call('DEL', KEYS[i]) end
redis.call('SET', KEYS[1], 'done', 'EX', ARGV[2])
redis.call('ZREM', KEYS[6], ARGV[3])
redis.call('HDEL', KEYS[7], ARGV[3])
return 1";

/// Ends a chord that failed: a late copy of a part does not fail it again.
const FAIL: &str = r"
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return 1";

/// How long a claim lasts while its owner publishes the body, in seconds (kombu's publish retries and a margin).
const PUBLISH_SECONDS: u64 = 21;

/// What the script said about a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartAnswer {
    /// Whether this part completed the chord and its sender is to go on with the body.
    pub(crate) claimed: bool,
}

/// The results of a complete chord, in the order of its header.
#[derive(Debug, PartialEq)]
pub(crate) enum Parts {
    /// All succeeded.
    Results(Vec<Value>),
    /// One failed: its id and its exception.
    Failed { task_id: String, exception: Value },
    /// They cannot be joined, or one failed in a header of groups, which is joined by its saved shape: the exception.
    Unjoined { exception: Value },
}

impl RedisBackend {
    /// The commands that set a chord's size before its last header task is sent.
    pub(crate) fn chord_size_commands(&self, group_id: &str, size: u64) -> Vec<Cmd> {
        let (mut forget, mut set) = (cmd("DEL"), cmd("SET"));
        forget.arg(self.group_key(group_id, ".c"));
        set.arg(self.group_key(group_id, ".s")).arg(size);
        if self.chord_expires > 0 {
            set.arg("EX").arg(self.chord_expires);
        }
        vec![forget, set]
    }

    /// The command that adds parts to a running chord (`Task.add_to_chord`).
    pub(crate) fn chord_grow_command(&self, group_id: &str, by: i64) -> Cmd {
        let mut grow = cmd("INCRBY");
        grow.arg(self.group_key(group_id, ".t")).arg(by);
        grow
    }

    /// The command that returns a part; `token` claims the chord if this part completes it, and `completing` is what
    /// another worker then needs to go on in place of this one; `redelivered` says that it may be a late copy.
    pub(crate) fn chord_part_command(
        &self,
        part: &ChordPart,
        token: &str,
        completing: &[u8],
        redelivered: bool,
    ) -> Cmd {
        let id = &part.group_id;
        let [parts, more, size, members, group, claim] =
            [".j", ".t", ".s", ".d", "", ".c"].map(|suffix| self.group_key(id, suffix));
        let [claimed, completed_by] = self.claimed_keys();
        let keys = [parts, more, size, members, group, claim, claimed, completed_by];
        let index = part.group_index.map_or_else(|| "+inf".to_owned(), |index| index.to_string());
        let encoded = self.encoding.encode(part.encode()).unwrap_or_else(|_| part.encode());
        let group_expires = self.chord_expires.max(self.expires);
        let arguments: [&[u8]; 11] = [
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
            if redelivered { b"1" } else { b"0" },
        ];
        eval(PART, &keys.each_ref(), &arguments)
    }

    /// Reads the reply to [`RedisBackend::chord_part_command`].
    pub(crate) fn part_answer(reply: &Reply) -> PartAnswer {
        let claimed = matches!(reply, Reply::Array(parts) if parts.get(3) == Some(&Reply::Int(1)));
        PartAnswer { claimed }
    }

    /// The results of a complete chord's parts.
    pub(crate) async fn chord_parts(&self, group_id: &str) -> Result<Parts, BrokerError> {
        let list = self.group_key(group_id, ".j");
        let mut read = Pipeline::new();
        read.cmd(if self.ordered { "ZRANGE" } else { "LRANGE" }).arg(list).arg(0).arg(-1);
        let replies = self.link.call(&mut read).await?;
        let Reply::Array(parts) = &replies[0] else { return Ok(Parts::Results(Vec::new())) };
        let mut results = Vec::with_capacity(parts.len());
        for part in parts {
            let Reply::BulkString(text) = part else { continue };
            let Value::List(fields) = self.encoding.decode(text)? else { continue };
            let Ok([_, task_id, state, result]) = <[Value; 4]>::try_from(fields) else { continue };
            match state.as_str().map(TaskState::from_name) {
                Some(TaskState::Failure | TaskState::Revoked) => {
                    let task_id = task_id.as_str().unwrap_or_default().to_owned();
                    return Ok(Parts::Failed { task_id, exception: result });
                }
                _ => results.push(result),
            }
        }
        Ok(Parts::Results(results))
    }

    /// Keeps a claim while the body is published; `false` when another worker has it now.
    pub(crate) async fn extend_claim(&self, group_id: &str, token: &str) -> Result<bool, BrokerError> {
        let replies = self.run(vec![self.extend_claim_command(group_id, token)]).await?;
        Ok(replies[0] == Reply::Int(1))
    }

    /// The command that keeps a claim; it answers 0 when another worker has it now.
    pub(crate) fn extend_claim_command(&self, group_id: &str, token: &str) -> Cmd {
        let keys = [".c", ".s"].map(|suffix| self.group_key(group_id, suffix));
        let seconds = PUBLISH_SECONDS.max(self.claim_seconds()).to_string();
        eval(EXTEND, &keys.each_ref(), &[token.as_bytes(), seconds.as_bytes()])
    }

    /// The command that ends a chord whose body is sent in the same transaction.
    pub(crate) fn chord_clean_command(&self, group_id: &str, token: &str) -> Cmd {
        let [claim, parts, more, size, members] =
            [".c", ".j", ".t", ".s", ".d"].map(|suffix| self.group_key(group_id, suffix));
        let [claimed, completed_by] = self.claimed_keys();
        let keys = [claim, parts, more, size, members, claimed, completed_by];
        let seconds = (self.claim_seconds() * 2).max(300).to_string();
        eval(CLEAN, &keys.each_ref(), &[token.as_bytes(), seconds.as_bytes(), group_id.as_bytes()])
    }

    /// The command that ends a chord that failed: a late copy of a part does not fail it again.
    pub(crate) fn chord_fail_command(&self, group_id: &str) -> Cmd {
        let [claimed, completed_by] = self.claimed_keys();
        let keys = [self.group_key(group_id, ".s"), claimed, completed_by];
        eval(FAIL, &keys.each_ref(), &[group_id.as_bytes()])
    }

    /// The chords that were claimed and neither ended nor failed within the time of their claim.
    pub(crate) async fn overdue_chords(&self) -> Result<Vec<String>, BrokerError> {
        let [claimed, _] = self.claimed_keys();
        Ok(texts(&self.run(vec![eval(OVERDUE, &[&claimed], &[])]).await?[0]))
    }

    /// Claims an overdue chord and returns what its completing part has left for this; `None` when somebody else is
    /// at it, or nothing is left to do.
    pub(crate) async fn reclaim_chord(
        &self,
        group_id: &str,
        token: &str,
    ) -> Result<Option<Vec<u8>>, BrokerError> {
        let [claim, size] = [".c", ".s"].map(|suffix| self.group_key(group_id, suffix));
        let [claimed, completed_by] = self.claimed_keys();
        let keys = [claim, size, claimed, completed_by];
        let seconds = self.claim_seconds().to_string();
        let arguments: [&[u8]; 3] = [group_id.as_bytes(), token.as_bytes(), seconds.as_bytes()];
        match self.run(vec![eval(RECLAIM, &keys.each_ref(), &arguments)]).await?.pop() {
            Some(Reply::BulkString(completing)) => Ok(Some(completing)),
            _ => Ok(None),
        }
    }

    /// The sorted set of claimed chords by the end of their claim, and the hash of the parts that completed them.
    fn claimed_keys(&self) -> [String; 2] {
        ["celeriac.chords", "celeriac.chords.completing"].map(|name| format!("{}{name}", self.prefix))
    }

    /// How long a missing result of a part is waited for.
    pub(crate) fn join_timeout(&self) -> std::time::Duration {
        self.join_timeout
    }

    fn claim_seconds(&self) -> u64 {
        (self.join_timeout.as_secs() * 2).max(5)
    }
}
