//! Revocations in the broker: they hold when every worker is restarted, and for one that was not there.
//!
//! Celery's workers keep revoked ids in memory and tell them each other at the start; when all are restarted, what was
//! revoked runs. celeriac's workers also keep them in two sorted sets of the broker's database, scored with the Unix
//! time of the revocation: `celeriac.revoked` with task ids and `celeriac.revoked.stamps` with `["<name>", <value>]`.
//! Both are bounded by [`LIMIT`] and [`KEPT`]; when the message of a revoked task has been dropped, its id is kept no
//! longer than Celery keeps it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::{Pipeline, Value as Reply};

use crate::broker::redis::{Keys, Link};
use crate::broker::{Broker, BrokerError};
use crate::message::{Value, json};
use crate::node::{KEPT, LIMIT, Revoked, lock};

/// How long an id stays known after its message is gone (`CELERY_WORKER_REVOKE_EXPIRES`).
const AFTERWARDS: Duration = Duration::from_secs(10_800);
/// How far the clocks of two machines may differ.
const SKEW: f64 = 120.0;

/// The revocations of a broker's database; cheap to clone.
#[derive(Clone)]
pub(crate) struct Revocations {
    /// `None` at a broker that keeps none.
    kept: Option<(Link, Arc<Keys>)>,
    /// Up to which time they were read: Unix time in seconds.
    read_until: Arc<Mutex<f64>>,
}

impl Revocations {
    pub(crate) fn new(broker: &Broker) -> Self {
        let kept = broker.redis().map(|queues| (queues.link().clone(), Arc::clone(queues.keys())));
        Self { kept, read_until: Arc::default() }
    }

    /// The revocations at a Redis server.
    pub(super) fn at(link: Link, keys: Arc<Keys>) -> Self {
        Self { kept: Some((link, keys)), read_until: Arc::default() }
    }

    /// Keeps ids.
    pub(super) async fn add(&self, ids: &[String]) -> Result<(), BrokerError> {
        let Some((link, keys)) = &self.kept else { return Ok(()) };
        link.call(&mut keep(keys, ids)).await.map(drop)
    }

    /// Keeps values of a stamp.
    pub(super) async fn add_stamps(&self, name: &str, values: &[Value]) -> Result<(), BrokerError> {
        let Some((link, keys)) = &self.kept else { return Ok(()) };
        let stamps: Vec<String> =
            values.iter().map(|value| json::dumps(&Value::List(vec![name.into(), value.clone()]))).collect();
        link.call(&mut add(&keys.revoked_stamps, &stamps)).await.map(drop)
    }

    /// The message of a revoked task is gone: its id need not be kept for long.
    pub(crate) async fn message_gone(&self, id: &str) -> Result<(), BrokerError> {
        let Some((link, keys)) = &self.kept else { return Ok(()) };
        let mut shorten = Pipeline::new();
        let revoked_at = unix_now() - (KEPT - AFTERWARDS).as_secs_f64();
        shorten.cmd("ZADD").arg(&keys.revoked).arg("XX").arg("LT").arg(revoked_at).arg(id);
        link.call(&mut shorten).await.map(drop)
    }

    /// Adds what was revoked since this was called last.
    pub(crate) async fn read(&self, revoked: &Mutex<Revoked>) -> Result<(), BrokerError> {
        let Some((link, keys)) = &self.kept else { return Ok(()) };
        let now = unix_now();
        let since = (*lock(&self.read_until) - SKEW).max(now - KEPT.as_secs_f64());
        let mut read = Pipeline::new();
        for key in [&keys.revoked, &keys.revoked_stamps] {
            read.cmd("ZRANGEBYSCORE").arg(key).arg(since).arg("+inf").arg("WITHSCORES");
        }
        let replies = link.call(&mut read).await?;
        let mut revoked = lock(revoked);
        for (id, time) in replies.first().map(scored).unwrap_or_default() {
            if !revoked.contains(&id) {
                revoked.add_aged(id, Duration::try_from_secs_f64(now - time).unwrap_or_default());
            }
        }
        for (stamp, _) in replies.get(1).map(scored).unwrap_or_default() {
            match json::loads(stamp.as_bytes()) {
                Ok(Value::List(pair)) if pair.len() == 2 => {
                    if let Some(name) = pair[0].as_str() {
                        revoked.add_stamp(name, vec![pair[1].clone()]);
                    }
                }
                _ => {
                    log::warn!(stamp = stamp.as_str(); "A revoked stamp in the broker cannot be read: {stamp}")
                }
            }
        }
        *lock(&self.read_until) = now;
        Ok(())
    }
}

/// The commands that keep ids.
pub(super) fn keep(keys: &Keys, ids: &[String]) -> Pipeline {
    add(&keys.revoked, ids)
}

fn add(key: &str, members: &[String]) -> Pipeline {
    let mut add = Pipeline::new();
    if members.is_empty() {
        return add;
    }
    let now = unix_now();
    let insert = add.cmd("ZADD").arg(key);
    for member in members {
        insert.arg(now).arg(member);
    }
    add.cmd("ZREMRANGEBYSCORE").arg(key).arg("-inf").arg(now - KEPT.as_secs_f64());
    add.cmd("ZREMRANGEBYRANK").arg(key).arg(0).arg(-(LIMIT as i64) - 1);
    add.cmd("EXPIRE").arg(key).arg(KEPT.as_secs());
    add
}

/// Members and scores; an older server writes scores as text.
fn scored(reply: &Reply) -> Vec<(String, f64)> {
    let Reply::Array(items) = reply else { return Vec::new() };
    let text = |item: &Reply| match item {
        Reply::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    };
    let number = |item: &Reply| match item {
        Reply::Double(number) => Some(*number),
        item => text(item)?.parse().ok(),
    };
    items.chunks_exact(2).filter_map(|pair| Some((text(&pair[0])?, number(&pair[1])?))).collect()
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}
