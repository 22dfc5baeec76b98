//! The limit on chat requests per user: a burst within a minute and a sustained number within an hour.

use redis::Script;
use uuid::Uuid;

use crate::redis_link::RedisLink;

/// What the limiter says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allowed,
    /// Too many; come back after so many seconds (at least 1).
    Limited {
        /// Seconds until the window ends.
        retry_after_seconds: u64,
    },
}

/// Counts requests in Redis, in windows that begin with a user's first request.
pub struct RateLimiter {
    redis: RedisLink,
    per_minute: u32,
    per_hour: u32,
    script: Script,
}

/// Takes a place in both windows or in none; answers the milliseconds to wait, 0 when there was a place.
const TAKE: &str = r"
local wait = 0
for i, key in ipairs(KEYS) do
    if tonumber(redis.call('GET', key) or '0') >= tonumber(ARGV[2 * i - 1]) then
        wait = math.max(wait, redis.call('PTTL', key), 1)
    end
end
if wait > 0 then return wait end
for i, key in ipairs(KEYS) do
    if redis.call('INCR', key) == 1 then redis.call('PEXPIRE', key, ARGV[2 * i]) end
end
return 0
";

const MINUTE_MS: u32 = 60_000;
const HOUR_MS: u32 = 3_600_000;

impl RateLimiter {
    /// A limiter with these limits per user.
    pub fn new(redis: RedisLink, per_minute: u32, per_hour: u32) -> Self {
        Self { redis, per_minute, per_hour, script: Script::new(TAKE) }
    }

    /// Whether this user may make one more request. If Redis is down the error is logged and the request goes on.
    pub async fn check(&self, user: Uuid) -> Decision {
        let mut commands = self.redis.commands();
        let mut take = self.script.prepare_invoke();
        take.key(format!("rate_limit:chat:{{{user}}}:minute"))
            .key(format!("rate_limit:chat:{{{user}}}:hour"));
        take.arg(self.per_minute).arg(MINUTE_MS).arg(self.per_hour).arg(HOUR_MS);
        match take.invoke_async::<u64>(&mut commands).await {
            Ok(0) => Decision::Allowed,
            Ok(wait_ms) => Decision::Limited { retry_after_seconds: wait_ms.div_ceil(1000).max(1) },
            Err(error) => {
                log::error!(user:% = user, error:% = error; "A rate limiter error: the request goes through");
                Decision::Allowed
            }
        }
    }
}
