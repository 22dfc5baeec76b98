//! Bringing back what dead workers held: the sweep over `unacked` and over abandoned in-flight lists.
//!
//! Source of the `unacked` part: kombu 5.7 `QoS.restore_visible`. The transaction there watches the whole hash;
//! ours compares and moves one message in a script, so that a busy fleet does not starve it.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio_util::sync::CancellationToken;

use super::clock::ServerClock;
use super::exchange::is_full;
use super::inflight::SLOTS;
use super::{Keys, Link, Queues};
use crate::broker::BrokerError;
use crate::failpoints::fail_point;
use crate::message::{self, envelope};

/// Moves one message from `unacked` to its list, unless it was acknowledged or renewed meanwhile.
const RESTORE_UNACKED: &str = r"
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not score or tonumber(score) > tonumber(ARGV[2]) then return 0 end
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[3] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
for i = 3, #KEYS do redis.call('RPUSH', KEYS[i], ARGV[4]) end
return 1";

/// Removes an index entry that has no message.
const DROP_ORPHAN: &str = r"
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return redis.call('ZREM', KEYS[2], ARGV[1]) end
return 0";

/// Takes the last message of an abandoned in-flight list back to its list, if it is still the one that was read.
const RESTORE_INFLIGHT: &str = r"
if redis.call('LINDEX', KEYS[1], -1) ~= ARGV[1] then return 0 end
redis.call('RPOP', KEYS[1])
for i = 2, #KEYS do redis.call('RPUSH', KEYS[i], ARGV[2]) end
return 1";

/// Removes a worker whose lease is over.
const FORGET_WORKER: &str = r"
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if lease and tonumber(lease) <= tonumber(ARGV[2]) then return redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0";

/// Renews the lease of a worker by the server's time.
///
/// Its first write frees memory, so that a full server lets it pass.
const RENEW_LEASE: &str = r"
local time = redis.call('TIME')[1]
redis.call('ZREM', KEYS[1], ARGV[2])
return redis.call('ZADD', KEYS[1], time + ARGV[1], ARGV[2])";

/// Gives the lock of a sweep back.
const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";

/// How often a sweep is made.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How long a sweeper waits after it came, so that workers that lost the server too can renew first.
const GRACE: Duration = Duration::from_secs(10);
/// How long the lock of a sweep lasts at most. It only saves work: what is moved is compared at that moment.
const MUTEX_MILLISECONDS: u64 = 15_000;
/// Most messages that one sweep brings back.
const SWEEP_LIMIT: usize = 10_000;

/// Brings back what nobody holds any more.
pub(crate) struct Sweeper {
    queues: Queues,
    link: Link,
    keys: Arc<Keys>,
    visibility_timeout: Duration,
    clock: ServerClock,
    /// Called with the number of messages that a sweep brought back.
    restored: Box<dyn Fn(u64) + Send + Sync>,
}

impl Sweeper {
    pub(crate) fn new(
        queues: Queues,
        visibility_timeout: Duration,
        restored: impl Fn(u64) + Send + Sync + 'static,
    ) -> Self {
        let (link, keys) = (queues.link().clone(), Arc::clone(queues.keys()));
        let clock = ServerClock::default();
        Self { queues, link, keys, visibility_timeout, clock, restored: Box::new(restored) }
    }

    /// Sweeps now and then until cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut healthy_since = None;
        let interval = SWEEP_EVERY.min(self.visibility_timeout);
        let grace = GRACE.min(self.visibility_timeout);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
            let result = match self.contact().await {
                Ok(()) if healthy_since.get_or_insert_with(tokio::time::Instant::now).elapsed() < grace => {
                    Ok(0)
                }
                Ok(()) => self.sweep().await,
                Err(error) => Err(error),
            };
            match result {
                Ok(0) => {}
                Ok(count) => {
                    log::warn!(count; "Restored {count} unacknowledged message(s) of workers that are gone");
                    (self.restored)(count);
                }
                Err(error) => {
                    healthy_since = None;
                    log::debug!(error:% = error; "Sweep put off: {error}");
                }
            }
        }
    }

    async fn contact(&mut self) -> Result<(), BrokerError> {
        let time = self.link.call(Pipeline::new().cmd("TIME")).await?;
        self.clock.set(&time[0]);
        Ok(())
    }

    /// One sweep under the fleet's lock; returns how many messages it brought back.
    pub(crate) async fn sweep(&mut self) -> Result<u64, BrokerError> {
        self.contact().await?;
        let token = uuid::Uuid::new_v4().to_string();
        let mut lock = Pipeline::new();
        lock.cmd("SET").arg(&self.keys.unacked_mutex).arg(&token).arg("NX").arg("PX").arg(MUTEX_MILLISECONDS);
        match self.link.call(&mut lock).await {
            Ok(replies) if replies[0] == Value::Nil => return Ok(0),
            Ok(_) => {}
            // A full server takes no lock; what the scripts move is compared at that moment anyhow.
            Err(BrokerError::Refused { reason, .. }) if is_full(&reason) => {}
            Err(error) => return Err(error),
        }
        fail_point!("sweep.locked");
        let count = async { Ok(self.sweep_unacked().await? + self.sweep_inflight().await?) }.await;
        let mut unlock = Pipeline::new();
        unlock.add_command(eval(RELEASE, &[&self.keys.unacked_mutex], &[token.as_bytes()]));
        self.link.call(&mut unlock).await?;
        count
    }

    async fn sweep_unacked(&self) -> Result<u64, BrokerError> {
        let cutoff = self.clock.now() - self.visibility_timeout.as_secs_f64();
        let mut find = Pipeline::new();
        find.cmd("ZREVRANGEBYSCORE")
            .arg(&self.keys.unacked_index)
            .arg(cutoff)
            .arg(0)
            .arg("LIMIT")
            .arg(0)
            .arg(SWEEP_LIMIT);
        let found = self.link.call(&mut find).await?;
        let Value::Array(tags) = &found[0] else { return Ok(0) };
        let mut count = 0;
        for tag in tags.iter().filter_map(bytes) {
            count += self.restore_unacked(tag, cutoff).await?;
            fail_point!("sweep.restored");
        }
        Ok(count)
    }

    async fn restore_unacked(&self, tag: &[u8], cutoff: f64) -> Result<u64, BrokerError> {
        let keys = &self.keys;
        let mut read = Pipeline::new();
        read.cmd("HGET").arg(&keys.unacked).arg(tag);
        let found = self.link.call(&mut read).await?;
        let script = |script: &str, keys: &[&String], arguments: &[&[u8]]| {
            let mut pipeline = Pipeline::new();
            pipeline.add_command(eval(script, keys, arguments));
            pipeline
        };
        let Some(stored) = bytes(&found[0]) else {
            self.link.call(&mut script(DROP_ORPHAN, &[&keys.unacked, &keys.unacked_index], &[tag])).await?;
            return Ok(0);
        };
        let Some((raw, exchange, routing_key)) = split_unacked(stored) else {
            log::error!(tag = String::from_utf8_lossy(tag).as_ref(); "An entry of unacked is not [message, exchange, routing_key]; it is left where it is");
            return Ok(0);
        };
        let payload = envelope::mark_redelivered(raw).unwrap_or_else(|_| raw.to_vec());
        let lists = self.lists_of(&payload, &exchange, &routing_key).await?;
        let mut names = vec![&keys.unacked, &keys.unacked_index];
        names.extend(&lists);
        let cutoff = cutoff.to_string();
        let mut restore = script(RESTORE_UNACKED, &names, &[tag, cutoff.as_bytes(), stored, &payload]);
        Ok(u64::from(self.link.call(&mut restore).await?[0] == Value::Int(1)))
    }

    async fn sweep_inflight(&self) -> Result<u64, BrokerError> {
        let keys = &self.keys;
        let mut find = Pipeline::new();
        let cutoff = self.clock.now();
        find.cmd("ZRANGEBYSCORE").arg(&keys.inflight_index).arg("-inf").arg(cutoff);
        let found = self.link.call(&mut find).await?;
        let Value::Array(workers) = &found[0] else { return Ok(0) };
        let mut count = 0;
        for worker in workers.iter().filter_map(bytes).map(String::from_utf8_lossy) {
            for slot in 0..SLOTS {
                count += self.restore_list(&keys.inflight(&worker, slot)).await?;
            }
            fail_point!("sweep.emptied");
            let mut forget = Pipeline::new();
            forget.add_command(eval(
                FORGET_WORKER,
                &[&keys.inflight_index],
                &[worker.as_bytes(), cutoff.to_string().as_bytes()],
            ));
            self.link.call(&mut forget).await?;
        }
        Ok(count)
    }

    async fn restore_list(&self, list: &String) -> Result<u64, BrokerError> {
        let mut count = 0;
        loop {
            let mut read = Pipeline::new();
            read.cmd("LINDEX").arg(list).arg(-1);
            let found = self.link.call(&mut read).await?;
            let Some(raw) = bytes(&found[0]) else { return Ok(count) };
            let payload = envelope::mark_redelivered(raw).unwrap_or_else(|_| raw.to_vec());
            let (exchange, routing_key) = match envelope::decode(raw) {
                Ok(message) => {
                    let info = message.properties.delivery_info;
                    (info.exchange, info.routing_key)
                }
                Err(_) => (String::new(), String::new()),
            };
            let lists = self.lists_of(&payload, &exchange, &routing_key).await?;
            let mut names = vec![list];
            names.extend(&lists);
            let mut restore = Pipeline::new();
            restore.add_command(eval(RESTORE_INFLIGHT, &names, &[raw, &payload]));
            if self.link.call(&mut restore).await?[0] != Value::Int(1) {
                return Ok(count);
            }
            fail_point!("sweep.moved");
            count += 1;
        }
    }

    /// The lists to which a message goes back.
    async fn lists_of(
        &self,
        raw: &[u8],
        exchange: &str,
        routing_key: &str,
    ) -> Result<Vec<String>, BrokerError> {
        let priority =
            envelope::decode(raw).ok().and_then(|message| message.properties.priority).unwrap_or(0);
        let queues = if exchange.is_empty() {
            vec![routing_key.to_owned()]
        } else {
            let queues = self.queues.route(exchange, routing_key).await?;
            if queues.is_empty() { vec![routing_key.to_owned()] } else { queues }
        };
        Ok(queues.iter().map(|queue| self.keys.queue(queue, priority)).collect())
    }
}

/// The message, exchange and routing key of a value of the hash of unacknowledged messages.
pub(crate) fn split_unacked(stored: &[u8]) -> Option<(&[u8], String, String)> {
    let parts: Vec<&serde_json::value::RawValue> = serde_json::from_slice(stored).ok()?;
    let [raw, exchange, routing_key] = parts.as_slice() else { return None };
    let text = |part: &serde_json::value::RawValue| match message::json::loads(part.get().as_bytes()) {
        Ok(message::Value::Str(text)) => Some(text),
        Ok(message::Value::Null) => Some(String::new()),
        _ => None,
    };
    Some((raw.get().as_bytes(), text(exchange)?, text(routing_key)?))
}

/// The command that registers a worker's in-flight lists, or keeps them registered.
pub(crate) fn renew_lease(keys: &Keys, worker: &str, lease: Duration) -> redis::Cmd {
    let seconds = lease.as_secs_f64().to_string();
    eval(RENEW_LEASE, &[&keys.inflight_index], &[seconds.as_bytes(), worker.as_bytes()])
}

/// `EVAL` with the script's text: always found, whatever server answers.
pub(crate) fn eval(script: &str, keys: &[&String], arguments: &[&[u8]]) -> redis::Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(keys.len());
    for key in keys {
        command.arg(key.as_str());
    }
    for argument in arguments {
        command.arg(*argument);
    }
    command
}

fn bytes(value: &Value) -> Option<&[u8]> {
    if let Value::BulkString(bytes) = value { Some(bytes) } else { None }
}

/// The texts of a reply that is a list or a set.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    let (Value::Array(items) | Value::Set(items)) = value else { return Vec::new() };
    items.iter().filter_map(bytes).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}
