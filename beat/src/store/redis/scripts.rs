//! All Lua scripts of the store. The lock is that of redis-py, which RedBeat uses: whoever's token stands in it holds it.

use std::sync::LazyLock;

use redis::Script;

/// Keeps the lock for its whole time again: 1, or 0 when it is lost.
pub(super) fn extend() -> &'static Script {
    static SCRIPT: LazyLock<Script> = LazyLock::new(|| {
        Script::new(
            "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
             return redis.call('PEXPIRE', KEYS[1], ARGV[2])",
        )
    });
    &SCRIPT
}

/// Frees the lock, if it is ours.
pub(super) fn release() -> &'static Script {
    static SCRIPT: LazyLock<Script> = LazyLock::new(|| {
        Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end")
    });
    &SCRIPT
}

pub(super) const GONE: u8 = 2;
pub(super) const RECORDED: u8 = 1;

/// Records a run in entry, schedule and pending runs, if the lock is ours (or the token is empty: there is no lock) and
/// the entry still exists.
pub(super) fn record() -> &'static Script {
    static SCRIPT: LazyLock<Script> = LazyLock::new(|| {
        Script::new(
            "if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
             if redis.call('EXISTS', KEYS[2]) == 0 then return 2 end
             redis.call('HSET', KEYS[2], 'meta', ARGV[2])
             redis.call('ZADD', KEYS[3], ARGV[3], KEYS[2])
             redis.call('HSET', KEYS[4], ARGV[4], ARGV[5])
             return 1",
        )
    });
    &SCRIPT
}

/// Strikes a run off the pending ones, unless a later run of the entry took its place.
pub(super) fn strike_off() -> &'static Script {
    static SCRIPT: LazyLock<Script> = LazyLock::new(|| {
        Script::new(
            "local run = redis.call('HGET', KEYS[1], ARGV[1])
             if run and cjson.decode(run)['id'] == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end",
        )
    });
    &SCRIPT
}
