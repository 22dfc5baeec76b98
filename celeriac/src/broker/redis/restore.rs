//! Bringing back what dead workers held: the sweep over `unacked` and over abandoned in-flight lists.
//!
//! Source of the `unacked` part: kombu 5.7 `QoS.restore_visible`. The transaction there watches the whole hash;
//! ours compares and moves each message in a script, so that a busy fleet does not starve it, and many at a round trip.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use redis::{Pipeline, Value};
use tokio_util::sync::CancellationToken;

use super::clock::ServerClock;
use super::exchange::is_full;
use super::inflight::SLOTS;
use super::script::{bytes, eval};
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
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) end
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
/// The shortest time between sweeps that can be asked for.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// How long a sweeper waits after it came, so that workers that lost the server too can renew first.
const GRACE: Duration = Duration::from_secs(10);
/// How long the lock of a sweep lasts at most. It only saves work: what is moved is compared at that moment.
const MUTEX_MILLISECONDS: u64 = 15_000;
/// Most messages that one sweep brings back; the next one follows at once.
const SWEEP_LIMIT: usize = 10_000;
/// Most messages that are brought back at a time.
const BATCH: usize = 100;

/// Brings back what nobody holds any more.
pub(crate) struct Sweeper {
    queues: Queues,
    link: Link,
    keys: Arc<Keys>,
    visibility_timeout: Duration,
    /// How often a sweep looks at what is recorded (`unacked_restore_interval`).
    interval: Duration,
    /// When it last did.
    looked: Option<Instant>,
    clock: ServerClock,
    /// The queue for what does not say where it came from.
    lost_and_found: String,
    /// Counts what is brought back.
    restored: IntCounter,
}

impl Sweeper {
    /// A sweeper that looks at what is recorded every `interval`, and puts what does not say where it came from, as it cannot be read, into the queue `lost_and_found`.
    pub(crate) fn new(
        queues: Queues,
        visibility_timeout: Duration,
        interval: Option<Duration>,
        lost_and_found: String,
        restored: IntCounter,
    ) -> Self {
        let (link, keys) = (queues.link().clone(), Arc::clone(queues.keys()));
        let clock = ServerClock::default();
        let interval = interval.unwrap_or(SWEEP_EVERY).max(SHORTEST_INTERVAL);
        Self {
            queues,
            link,
            keys,
            visibility_timeout,
            interval,
            looked: None,
            clock,
            lost_and_found,
            restored,
        }
    }

    /// Sweeps now and then until cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut healthy_since = None;
        let interval = SWEEP_EVERY.min(self.visibility_timeout).min(self.interval);
        let grace = GRACE.min(self.visibility_timeout);
        let mut pause = interval;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = interval;
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
                    self.restored.inc_by(count);
                    if count >= SWEEP_LIMIT as u64 {
                        pause = Duration::ZERO;
                    }
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
        let lost_and_found = &self.lost_and_found;
        let mut routes = Routes { queues: &self.queues, lost_and_found, known: HashMap::new() };
        let looks =
            self.interval <= SWEEP_EVERY || self.looked.is_none_or(|time| time.elapsed() >= self.interval);
        let count = async {
            let recorded = if looks { self.sweep_unacked(&mut routes).await? } else { 0 };
            Ok((recorded, recorded + self.sweep_inflight(&mut routes).await?))
        };
        let count = count.await.map(|(recorded, count)| {
            if looks && recorded < SWEEP_LIMIT as u64 {
                self.looked = Some(Instant::now());
            }
            count
        });
        let mut unlock = Pipeline::new();
        unlock.add_command(eval(RELEASE, &[&self.keys.unacked_mutex], &[token.as_bytes()]));
        self.link.call(&mut unlock).await?;
        count
    }

    /// Brings back what is recorded and was not renewed: what waits longest first, if there is much.
    async fn sweep_unacked(&self, routes: &mut Routes<'_>) -> Result<u64, BrokerError> {
        let cutoff = self.clock.now() - self.visibility_timeout.as_secs_f64();
        let mut find = Pipeline::new();
        let index = &self.keys.unacked_index;
        find.cmd("ZRANGEBYSCORE").arg(index).arg(0).arg(cutoff).arg("LIMIT").arg(0).arg(SWEEP_LIMIT);
        let found = self.link.call(&mut find).await?;
        let Value::Array(tags) = &found[0] else { return Ok(0) };
        // What goes back last is taken first.
        let tags: Vec<&[u8]> = tags.iter().rev().filter_map(bytes).collect();
        let mut count = 0;
        for tags in tags.chunks(BATCH) {
            count += self.restore_unacked(tags, cutoff, routes).await?;
        }
        Ok(count)
    }

    async fn restore_unacked(
        &self,
        tags: &[&[u8]],
        cutoff: f64,
        routes: &mut Routes<'_>,
    ) -> Result<u64, BrokerError> {
        let [unacked, index] = [&self.keys.unacked, &self.keys.unacked_index];
        let mut read = Pipeline::new();
        read.cmd("HMGET").arg(unacked).arg(tags);
        let found = self.link.call(&mut read).await?;
        let Value::Array(found) = &found[0] else { return Ok(0) };
        let cutoff = cutoff.to_string();
        let mut restore = Pipeline::new();
        for (tag, stored) in tags.iter().zip(found) {
            let Some(stored) = bytes(stored) else {
                restore.add_command(eval(DROP_ORPHAN, &[unacked, index], &[tag]));
                continue;
            };
            let Some((raw, exchange, routing_key)) = split_unacked(stored) else {
                log::error!(tag = String::from_utf8_lossy(tag).as_ref(); "An entry of unacked is not [message, exchange, routing_key]; it is left where it is");
                continue;
            };
            let (payload, priority) = redelivered(raw);
            let lists = routes.lists(exchange, routing_key, priority).await?;
            let mut keys = vec![unacked, index];
            keys.extend(&lists);
            restore.add_command(eval(RESTORE_UNACKED, &keys, &[tag, cutoff.as_bytes(), stored, &payload]));
        }
        if restore.is_empty() {
            return Ok(0);
        }
        let replies = self.link.call(&mut restore).await?;
        let mut count = 0;
        for _ in replies.iter().filter(|reply| **reply == Value::Int(1)) {
            fail_point!("sweep.restored");
            count += 1;
        }
        Ok(count)
    }

    /// Brings back what stands in the in-flight lists of workers whose lease is over.
    async fn sweep_inflight(&self, routes: &mut Routes<'_>) -> Result<u64, BrokerError> {
        let keys = &self.keys;
        let mut find = Pipeline::new();
        let cutoff = self.clock.now();
        find.cmd("ZRANGEBYSCORE").arg(&keys.inflight_index).arg("-inf").arg(cutoff);
        let found = self.link.call(&mut find).await?;
        let Value::Array(workers) = &found[0] else { return Ok(0) };
        let mut count = 0;
        for worker in workers.iter().filter_map(bytes).map(String::from_utf8_lossy) {
            for slot in 0..SLOTS {
                count += self.restore_list(&keys.inflight(&worker, slot), routes).await?;
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

    async fn restore_list(&self, list: &String, routes: &mut Routes<'_>) -> Result<u64, BrokerError> {
        let mut count = 0;
        loop {
            let mut read = Pipeline::new();
            read.cmd("LRANGE").arg(list).arg(-(BATCH as isize)).arg(-1);
            let found = self.link.call(&mut read).await?;
            let Value::Array(messages) = &found[0] else { return Ok(count) };
            if messages.is_empty() {
                return Ok(count);
            }
            let mut restore = Pipeline::new();
            for raw in messages.iter().rev().filter_map(bytes) {
                let (exchange, routing_key) = match envelope::decode(raw) {
                    Ok(message) => {
                        let info = message.properties.delivery_info;
                        (info.exchange, info.routing_key)
                    }
                    Err(_) => (String::new(), String::new()),
                };
                let (payload, priority) = redelivered(raw);
                let lists = routes.lists(exchange, routing_key, priority).await?;
                let mut keys = vec![list];
                keys.extend(&lists);
                restore.add_command(eval(RESTORE_INFLIGHT, &keys, &[raw, &payload]));
            }
            for reply in self.link.call(&mut restore).await? {
                if reply != Value::Int(1) {
                    return Ok(count);
                }
                fail_point!("sweep.moved");
                count += 1;
            }
        }
    }
}

/// Where messages go back to, asked once a sweep.
struct Routes<'a> {
    queues: &'a Queues,
    lost_and_found: &'a str,
    /// The queues by exchange and routing key.
    known: HashMap<(String, String), Vec<String>>,
}

impl Routes<'_> {
    /// The lists to which a message goes back.
    async fn lists(
        &mut self,
        exchange: String,
        routing_key: String,
        priority: u8,
    ) -> Result<Vec<String>, BrokerError> {
        let route = (exchange, routing_key);
        if !self.known.contains_key(&route) {
            let mut queues = match route.0.is_empty() {
                true => Vec::new(),
                false => self.queues.route(&route.0, &route.1).await?,
            };
            if queues.is_empty() {
                let name = if route.1.is_empty() { self.lost_and_found } else { &route.1 };
                queues.push(name.to_owned());
            }
            self.known.insert(route.clone(), queues);
        }
        Ok(self.known[&route].iter().map(|queue| self.queues.keys().queue(queue, priority)).collect())
    }
}

/// The message, marked as one that was delivered before, and its priority.
fn redelivered(raw: &[u8]) -> (Vec<u8>, u8) {
    let priority = envelope::decode(raw).ok().and_then(|message| message.properties.priority);
    (envelope::mark_redelivered(raw).unwrap_or_else(|_| raw.to_vec()), priority.unwrap_or(0))
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
