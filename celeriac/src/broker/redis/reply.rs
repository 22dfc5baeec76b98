//! Reply queues: made when a client asks, removed when it has its answers.
//!
//! Source: kombu 5.7 `kombu/transport/redis.py` (`REFRESH_BINDING`, `SWEEP_BINDINGS`); transcript
//! `vectors/monitor/control_ping.txt`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::{Cmd, Pipeline, Value, cmd};
use tokio::time::Instant;

use super::connection::Connection;
use super::script::eval;
use super::{Keys, Queues};
use crate::broker::{BrokerError, ReplyAddress};
use crate::message::{Message, envelope};

/// Binds a queue and moves the deadline of the exchange's bindings on.
const BIND: &str = r"
redis.call('SADD', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[2], 'GT', now + ARGV[3], ARGV[2])
return 1";

/// Removes the bindings of exchanges whose deadline has passed, unless a queue is bound for good.
const SWEEP: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local late = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
for _, exchange in ipairs(late) do
  if redis.call('EXISTS', ARGV[2] .. exchange) == 0 then redis.call('DEL', ARGV[1] .. exchange) end
  redis.call('ZREM', KEYS[1], exchange)
end
return #late";

/// Hands an answer to a queue, if it is bound: a client that has gone would leave it behind for ever.
const ANSWER: &str = r"
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1";

/// How long bindings live that nobody renews (`MIN_BINDING_TTL`).
const BINDING_MILLISECONDS: u64 = 3_600_000;
/// How long an answer waits for its client (`control_queue_ttl`).
const ANSWER_MILLISECONDS: u64 = 300_000;
/// Longest single wait for an answer, so that no connection's time-out cuts it short.
const WAIT: Duration = Duration::from_millis(250);
/// How often bindings that crashed clients left are looked for (`BINDING_SWEEP_INTERVAL`).
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Opens reply queues for a client; cheap to clone.
#[derive(Clone)]
pub(crate) struct ReplyQueues {
    queues: Queues,
    /// Unix time of the last sweep, in seconds.
    swept: Arc<AtomicU64>,
}

impl ReplyQueues {
    /// Creates the reply queues of a client of that broker.
    pub(crate) fn new(queues: Queues) -> Self {
        Self { queues, swept: Arc::default() }
    }

    /// As [`crate::broker::ReplyQueues::ask`]: binds the queue and publishes in one round trip.
    pub(crate) async fn ask(
        &self,
        address: ReplyAddress,
        request: &Message,
    ) -> Result<(ReplyQueue, Option<u64>), BrokerError> {
        let mut bind = Pipeline::new();
        bind.add_command(bind_command(self.queues.keys(), &address));
        let queue = ReplyQueue { owner: self.clone(), address: Some(address), connection: None };
        let listeners = self.queues.broadcast_after(bind, request).await?;
        Ok((queue, listeners))
    }

    /// Returns the command that sweeps bindings, when it is time for it.
    fn sweep(&self) -> Option<Cmd> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        let swept = self.swept.swap(now, Ordering::Relaxed);
        if now.saturating_sub(swept) < SWEEP_INTERVAL.as_secs() {
            self.swept.store(swept, Ordering::Relaxed);
            return None;
        }
        Some(sweep_command(self.queues.keys()))
    }
}

/// A queue for the answers to one request; removed also when its owner does not wait to the end.
pub(crate) struct ReplyQueue {
    owner: ReplyQueues,
    address: Option<ReplyAddress>,
    /// Waiting blocks a connection, so it is one of the queue's own.
    connection: Option<Connection>,
}

impl ReplyQueue {
    /// As [`crate::broker::ReplyQueue::next`].
    pub(crate) async fn next(&mut self, deadline: Instant) -> Result<Option<Message>, BrokerError> {
        let Some(address) = &self.address else { return Ok(None) };
        let (link, keys) = (self.owner.queues.link(), self.owner.queues.keys());
        let lists = keys.queue_steps(&address.queue());
        if self.connection.is_none() {
            self.connection = Some(link.dedicated(None).await?);
        }
        let Some(connection) = &mut self.connection else { return Ok(None) };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let wait = left.min(WAIT).max(Duration::from_millis(1));
            let mut pop = cmd("BRPOP");
            pop.arg(&lists).arg(wait.as_secs_f64());
            let popped = connection.reply(&pop).await.map_err(|error| link.broken(error))?;
            let Value::Array(parts) = popped else { continue };
            let Some(Value::BulkString(raw)) = parts.get(1) else { continue };
            match envelope::decode(raw) {
                Ok(message) => return Ok(Some(message)),
                Err(error) => log::warn!(error:% = error; "An answer of a worker cannot be read: {error}"),
            }
        }
    }

    /// Removes the queue, and now and then those that crashed clients left behind.
    pub(crate) async fn close(mut self) {
        if let Some(address) = self.address.take() {
            remove(self.owner.queues.clone(), address, self.owner.sweep()).await;
        }
    }
}

impl Drop for ReplyQueue {
    fn drop(&mut self) {
        if let (Some(address), Ok(runtime)) = (self.address.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(remove(self.owner.queues.clone(), address, None));
        }
    }
}

impl Queues {
    /// Publishes an answer to a reply queue; one that nobody waits for any more is dropped.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker cannot be reached or refuses.
    pub(crate) async fn answer(&self, address: &ReplyAddress, message: &Message) -> Result<(), BrokerError> {
        let keys = self.keys();
        let (table, list) = (keys.bindings(&address.exchange), keys.queue(&address.queue(), 0));
        let (member, raw, ttl) =
            (member(keys, address), envelope::encode(message), ANSWER_MILLISECONDS.to_string());
        let mut commands = Pipeline::new();
        commands.add_command(eval(ANSWER, &[&table, &list], &[member.as_bytes(), &raw, ttl.as_bytes()]));
        let replies = self.link().call(&mut commands).await?;
        if replies.first() == Some(&Value::Int(0)) {
            log::debug!(queue = list.as_str(); "Nobody waits for an answer at {list} any more");
        }
        Ok(())
    }
}

async fn remove(queues: Queues, address: ReplyAddress, sweep: Option<Cmd>) {
    let mut commands = unbind_commands(queues.keys(), &address);
    if let Some(sweep) = sweep {
        commands.add_command(sweep);
    }
    if let Err(error) = queues.link().call(&mut commands).await {
        log::debug!(error:% = error; "A reply queue was left behind: {error}");
    }
}

fn bind_command(keys: &Keys, address: &ReplyAddress) -> Cmd {
    let (table, deadlines) = (keys.bindings(&address.exchange), deadlines(keys));
    let ttl = BINDING_MILLISECONDS.to_string();
    let arguments = [member(keys, address), address.exchange.clone(), ttl];
    eval(BIND, &[&table, &deadlines], &arguments.each_ref().map(String::as_bytes))
}

fn unbind_commands(keys: &Keys, address: &ReplyAddress) -> Pipeline {
    let member = member(keys, address);
    let mut commands = Pipeline::new();
    commands.cmd("SREM").arg(keys.bindings(&address.exchange)).arg(&member);
    commands.cmd("SREM").arg(keys.permanent_bindings(&address.exchange)).arg(&member);
    commands.cmd("DEL").arg(keys.queue_steps(&address.queue()));
    commands
}

fn sweep_command(keys: &Keys) -> Cmd {
    let prefixes = [keys.bindings(""), keys.permanent_bindings("")];
    eval(SWEEP, &[&deadlines(keys)], &prefixes.each_ref().map(String::as_bytes))
}

fn deadlines(keys: &Keys) -> String {
    // Next to the tables of bindings, under the same prefix.
    format!("{}_kombu.binding_deadlines", keys.global_prefix())
}

fn member(keys: &Keys, address: &ReplyAddress) -> String {
    keys.binding(&address.routing_key, "", &address.queue())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::redis::KeysOptions;

    #[test]
    fn the_keys_are_kombus() {
        let keys = Keys::new(KeysOptions { global_keyprefix: "p:".to_owned(), ..KeysOptions::default() }, 0);
        assert_eq!(deadlines(&keys), "p:_kombu.binding_deadlines");
        assert_eq!(keys.bindings(""), "p:_kombu.binding.");
    }
}
