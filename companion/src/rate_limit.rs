//! The limit on chat requests per user: a burst within a minute and a sustained number within an hour.
//!
//! Both windows slide: at no time do more requests fall into the last minute, or the last hour, than the limit allows.

use redis::Script;
use uuid::Uuid;

use crate::redis_link::RedisLink;

/// The limiter's decision on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The request goes on.
    Allowed(Quota),
    /// Too many requests.
    Limited {
        /// Seconds until the next request is allowed, at least 1.
        retry_after_seconds: u64,
        /// The limit that refused it.
        quota: Quota,
    },
    /// Redis did not answer, so the request goes on uncounted.
    Uncounted,
}

/// The limit that is closest to being reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Requests that its window allows.
    pub limit: u32,
    /// Requests that are left in it.
    pub remaining: u32,
    /// Seconds until the oldest request leaves the window.
    pub reset_seconds: u64,
}

/// Keeps the times of each user's requests of the last hour in Redis.
pub struct RateLimiter {
    redis: RedisLink,
    per_minute: u32,
    per_hour: u32,
    script: Script,
}

/// Adds a request to the sorted set of a user's requests, by Redis' clock in milliseconds, if every window has room.
///
/// Arguments: pairs of a window in milliseconds and its limit, then a name for the request. Answers 1 or 0 for whether it
/// was added, then for the window with the least room: its limit, what remains, and the milliseconds until its oldest
/// request leaves it.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local longest, least, added = 0, nil, 1
local windows = (#ARGV - 1) / 2
for i = 1, windows do longest = math.max(longest, tonumber(ARGV[2 * i - 1])) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - longest)
for i = 1, windows do
    local from, limit = now - ARGV[2 * i - 1], tonumber(ARGV[2 * i])
    local room = limit - redis.call('ZCOUNT', KEYS[1], '(' .. from, '+inf')
    if room <= 0 then added = 0 end
    if not least or room < least.room then least = {room = room, limit = limit, from = from} end
end
if added == 1 then
    redis.call('ZADD', KEYS[1], now, ARGV[#ARGV])
    redis.call('PEXPIRE', KEYS[1], longest)
    least.room = least.room - 1
end
local oldest = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. least.from, '+inf', 'WITHSCORES', 'LIMIT', math.max(0, -least.room), 1)
local wait = oldest[2] and math.max(1, oldest[2] - least.from) or 1
return {added, least.limit, math.max(0, least.room), wait}
";

const MINUTE_MS: u32 = 60_000;
const HOUR_MS: u32 = 3_600_000;

impl RateLimiter {
    /// Makes a limiter with these limits per user.
    pub fn new(redis: RedisLink, per_minute: u32, per_hour: u32) -> Self {
        Self { redis, per_minute, per_hour, script: Script::new(TAKE) }
    }

    /// Counts a request of this user, if it is allowed. If Redis is down the error is logged and the request goes on.
    pub async fn check(&self, user: Uuid) -> Decision {
        let mut commands = self.redis.commands();
        let mut take = self.script.prepare_invoke();
        take.key(format!("rate_limit:chat:{{{user}}}:requests"));
        take.arg(MINUTE_MS)
            .arg(self.per_minute)
            .arg(HOUR_MS)
            .arg(self.per_hour)
            .arg(Uuid::new_v4().to_string());
        match take.invoke_async::<(u8, u32, u32, u64)>(&mut commands).await {
            Ok((added, limit, remaining, wait_ms)) => {
                let quota = Quota { limit, remaining, reset_seconds: wait_ms.div_ceil(1000).max(1) };
                match added {
                    1 => Decision::Allowed(quota),
                    _ => Decision::Limited { retry_after_seconds: quota.reset_seconds, quota },
                }
            }
            Err(error) => {
                log::error!(user:% = user, error:% = error; "A rate limiter error: the request goes through");
                Decision::Uncounted
            }
        }
    }
}
