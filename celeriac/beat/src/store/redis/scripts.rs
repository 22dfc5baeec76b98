//! All Lua scripts of the store. The lock is that of redis-py, which RedBeat uses: whoever's token stands in it holds it.

use redis::{Cmd, cmd};

/// Keeps the lock for its whole time again: 1, or 0 when it is lost.
pub(super) const EXTEND: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
     return redis.call('PEXPIRE', KEYS[1], ARGV[2])";

/// Frees the lock, if it is ours.
pub(super) const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end";

pub(super) const GONE: u8 = 2;
pub(super) const RECORDED: u8 = 1;

/// Records a run in entry, schedule and pending runs, if the lock is ours (or the token is empty: there is no lock) and
/// the entry still exists.
pub(super) const RECORD: &str = "if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
     if redis.call('EXISTS', KEYS[2]) == 0 then return 2 end
     redis.call('HSET', KEYS[2], 'meta', ARGV[2])
     redis.call('ZADD', KEYS[3], ARGV[3], KEYS[2])
     redis.call('HSET', KEYS[4], ARGV[4], ARGV[5])
     return 1";

/// Strikes a run off the pending ones, unless a later run of the entry took its place.
pub(super) const STRIKE_OFF: &str = "local run = redis.call('HGET', KEYS[1], ARGV[1])
     if run and cjson.decode(run)['id'] == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end";

/// The call of a script with those keys; its arguments follow.
pub(super) fn call(script: &str, keys: &[&str]) -> Cmd {
    let mut call = cmd("EVAL");
    call.arg(script).arg(keys.len()).arg(keys);
    call
}
