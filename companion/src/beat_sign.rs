//! The sign of life of a beat.
//!
//! The lock of RedBeat tells only of a schedule that is kept in Redis. A beat whose schedule is in a file or in a database leaves
//! this sign beside it.

use std::time::Duration;

use crate::redis_link::{RedisLink, RedisLinkError};

const KEY: &str = "metrics:beat";
const EXPIRES: Duration = Duration::from_secs(5);
/// The time between two signs of a beat; two may get lost.
pub const EVERY: Duration = Duration::from_millis(1500);

/// Says that a beat sends what is due.
///
/// # Errors
/// [`RedisLinkError`] when Redis does not answer.
pub async fn leave(redis: &RedisLink) -> Result<(), RedisLinkError> {
    let mut set = redis::cmd("SET");
    set.arg(KEY).arg(1).arg("PX").arg(EXPIRES.as_millis() as u64);
    Ok(set.query_async(&mut redis.commands()).await?)
}

/// Returns whether a beat has left its sign within the last seconds.
///
/// # Errors
/// [`RedisLinkError`] when Redis does not answer.
pub async fn is_there(redis: &RedisLink) -> Result<bool, RedisLinkError> {
    Ok(redis::cmd("EXISTS").arg(KEY).query_async(&mut redis.commands()).await?)
}
