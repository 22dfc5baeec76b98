//! All Lua scripts of the store. The lock is that of redis-py, which RedBeat uses: whoever's token stands in it holds it.

use redis::{Cmd, cmd};

/// Takes the lock if it is free: 0, or the milliseconds after which it may be free (-1 when it does not end).
pub(super) const TAKE: &str = "if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
     return redis.call('PTTL', KEYS[1])";

/// Keeps the lock for its whole time again, and says who leads: 1, or 0 when it is lost.
pub(super) const EXTEND: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
     redis.call('PEXPIRE', KEYS[1], ARGV[2])
     redis.call('HSET', KEYS[2], 'clock', ARGV[3], 'configuration', ARGV[4], 'node', ARGV[5])
     return 1";

/// Frees the lock, if it is ours.
pub(super) const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end";

/// The entries of a schedule that are to be looked at, with all that is known of them; the score of the next one. An entry
/// whose key holds something else comes with the server's words in place of its definition's.
pub(super) const LOOK: &str = "local found = {}
     for at, schedule in ipairs({KEYS[1], KEYS[2]}) do
       local due = redis.call('ZRANGEBYSCORE', schedule, 0, ARGV[1], 'LIMIT', 0, ARGV[3])
       for _, key in ipairs(due) do
         local fields = redis.pcall('HMGET', key, 'definition', 'meta')
         if fields.err then fields = {fields.err, false} end
         table.insert(found, {key, fields[1], fields[2], redis.call('HGET', KEYS[3], key)})
       end
     end
     local next = false
     for at, schedule in ipairs({KEYS[1], KEYS[2]}) do
       local first = redis.call('ZRANGEBYSCORE', schedule, '(' .. ARGV[1], ARGV[2], 'WITHSCORES', 'LIMIT', 0, 1)
       if first[2] and (not next or tonumber(first[2]) < tonumber(next)) then next = first[2] end
     end
     return {found, next}";

/// Some entries of a schedule by rank, with all that is known of them and their scores.
pub(super) const SLICE: &str = "local found = {}
     local members = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES')
     for at = 1, #members, 2 do
       local fields = redis.pcall('HMGET', members[at], 'definition', 'meta')
       if fields.err then fields = {fields.err, false} end
       table.insert(found, {members[at], fields[1], fields[2], redis.call('HGET', KEYS[2], members[at]), members[at + 1]})
     end
     return found";

/// Which configured entries have vanished, by their places: those that the record of configured entries has not, and those
/// of which a part is gone. One of which nothing is left but the record was deleted on purpose (RedBeat's `delete`).
pub(super) const VANISHED: &str = "local vanished = {}
     for at = 1, #ARGV, 2 do
       local name, key = ARGV[at], ARGV[at + 1]
       local schedule = KEYS[2]
       if string.sub(key, 1, #KEYS[4]) == KEYS[4] then schedule = KEYS[3] end
       local is_known = redis.call('SISMEMBER', KEYS[1], name) == 1
       local is_there = redis.call('EXISTS', key) == 1
       local is_due = redis.call('ZSCORE', schedule, key) and true or false
       if not is_known or is_there ~= is_due then table.insert(vanished, (at - 1) / 2) end
     end
     return vanished";

pub(super) const NOT_LEADER: i64 = 0;
pub(super) const DONE: i64 = 1;
pub(super) const GONE: i64 = 2;

/// Carries out changes, each as a whole: first its messages are sent, which is where it may be refused, then entry, schedule,
/// history and pending runs are written. It keeps the lock, too.
///
/// Arguments: token, milliseconds, how many changes, and for each of them key, meta, score (or `-`), history (or an empty
/// text), how many commands, for each of these how many arguments and these, how many pending runs, their ids and texts.
pub(super) const SETTLE: &str = "local outcomes = {}
     local held = ARGV[1] == '' or redis.call('GET', KEYS[1]) == ARGV[1]
     if held and ARGV[1] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
     local at = 4
     for number = 1, tonumber(ARGV[3]) do
       local key, meta, score, history, commands = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
       at = at + 5
       local outcome = 1
       if not held then outcome = 0
       elseif redis.call('EXISTS', key) == 0 then outcome = 2
       end
       for command = 1, commands do
         local count = tonumber(ARGV[at])
         if outcome == 1 then
           local reply = redis.pcall(unpack(ARGV, at + 1, at + count))
           if command == 1 and type(reply) == 'table' and reply.err then outcome = reply.err end
         end
         at = at + count + 1
       end
       local runs = tonumber(ARGV[at])
       if outcome == 1 then
         local schedule = KEYS[2]
         if string.sub(key, 1, #KEYS[6]) == KEYS[6] then schedule = KEYS[3] end
         redis.call('HSET', key, 'meta', meta)
         redis.call('ZADD', schedule, score, key)
         if history ~= '' then redis.call('HSET', KEYS[4], key, history) end
         for run = 1, runs do redis.call('HSET', KEYS[5], ARGV[at + run * 2 - 1], ARGV[at + run * 2]) end
       end
       at = at + 1 + runs * 2
       outcomes[number] = outcome
     end
     return outcomes";

/// Strikes a run off the pending ones; earlier releases kept it under the entry's name.
pub(super) const STRIKE_OFF: &str = "redis.call('HDEL', KEYS[1], ARGV[2])
     local run = redis.call('HGET', KEYS[1], ARGV[1])
     if run and cjson.decode(run)['id'] == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end";

/// The call of a script with those keys; its arguments follow.
pub(super) fn call(script: &str, keys: &[&str]) -> Cmd {
    let mut call = cmd("EVAL");
    call.arg(script).arg(keys.len()).arg(keys);
    call
}
