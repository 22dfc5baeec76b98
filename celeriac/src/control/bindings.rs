//! The reply queues of clients on Redis: made when a client asks, removed when it has its answers.
//!
//! Source: kombu 5.7 `kombu/transport/redis.py` (`REFRESH_BINDING`, `SWEEP_BINDINGS`); transcript
//! `vectors/monitor/control_ping.txt`.

use redis::{Cmd, Pipeline};

use super::mailbox::ReplyTo;
use crate::broker::BrokerError;
use crate::broker::redis::{Keys, Queues, eval};
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

/// The command that binds the queue for answers.
pub(super) fn bind(keys: &Keys, reply_to: &ReplyTo) -> Cmd {
    let (table, deadlines) = (keys.bindings(&reply_to.exchange), deadlines(keys));
    let ttl = BINDING_MILLISECONDS.to_string();
    let arguments = [member(keys, reply_to), reply_to.exchange.clone(), ttl];
    eval(BIND, &[&table, &deadlines], &arguments.each_ref().map(String::as_bytes))
}

/// The commands that remove the queue for answers.
pub(super) fn unbind(keys: &Keys, reply_to: &ReplyTo) -> Pipeline {
    let member = member(keys, reply_to);
    let mut commands = Pipeline::new();
    commands.cmd("SREM").arg(keys.bindings(&reply_to.exchange)).arg(&member);
    commands.cmd("SREM").arg(keys.permanent_bindings(&reply_to.exchange)).arg(&member);
    commands.cmd("DEL").arg(keys.queue_steps(&reply_to.queue()));
    commands
}

/// The command that removes the bindings that crashed clients left behind.
pub(super) fn sweep(keys: &Keys) -> Cmd {
    let prefixes = [keys.bindings(""), keys.permanent_bindings("")];
    eval(SWEEP, &[&deadlines(keys)], &prefixes.each_ref().map(String::as_bytes))
}

/// Publishes an answer; one that nobody waits for any more is dropped.
///
/// # Errors
/// Those of the server.
pub(super) async fn answer(
    queues: &Queues,
    reply_to: &ReplyTo,
    message: &Message,
) -> Result<(), BrokerError> {
    let keys = queues.keys();
    let (table, list) = (keys.bindings(&reply_to.exchange), keys.queue(&reply_to.queue(), 0));
    let (member, raw, ttl) =
        (member(keys, reply_to), envelope::encode(message), ANSWER_MILLISECONDS.to_string());
    let mut commands = Pipeline::new();
    commands.add_command(eval(ANSWER, &[&table, &list], &[member.as_bytes(), &raw, ttl.as_bytes()]));
    let replies = queues.link().call(&mut commands).await?;
    if replies.first() == Some(&redis::Value::Int(0)) {
        log::debug!(queue = list.as_str(); "Nobody waits for an answer at {list} any more");
    }
    Ok(())
}

fn deadlines(keys: &Keys) -> String {
    // Next to the tables of bindings, under the same prefix.
    keys.bindings("").replace("binding.", "binding_deadlines")
}

fn member(keys: &Keys, reply_to: &ReplyTo) -> String {
    keys.binding(&reply_to.routing_key, "", &reply_to.queue())
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
