//! The commands that a worker needs of its broker, asked for at each connection.
//!
//! The server is given each of them in a `MULTI` that cannot be carried out, as its last command is malformed: a server
//! checks the rights of a user when a command is queued (`processCommand` in Redis' `server.c`). So nothing happens, and
//! no right to `ACL` is needed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value, cmd};

use super::connection::server_error;
use super::refusal::is_passing;
use super::{Keys, Link};
use crate::broker::refusal::code;
use crate::broker::refusals::{Effect, Refusal, Refusals, Work};

/// How often the rights at a result backend are asked for.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// One right, and what is missing without it.
struct Right {
    /// The command and harmless arguments.
    command: Vec<String>,
    consequence: &'static str,
    need: Need,
}

/// How much a right is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing can be consumed without it.
    Everything,
    /// Some work cannot be done without it.
    Something,
    /// All work is done without it, but more slowly or with a weaker guarantee.
    Comfort,
}

/// A right that is missing.
pub(crate) struct Missing {
    /// The command.
    pub(crate) name: String,
    pub(crate) need: Need,
    consequence: &'static str,
    reason: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "no right to {}: {} ({})", self.name, self.consequence, self.reason)
    }
}

impl Missing {
    /// A missing right to something that a worker can do without.
    pub(crate) fn comfort(name: &str, consequence: &'static str, reason: String) -> Self {
        Self { name: name.to_owned(), need: Need::Comfort, consequence, reason }
    }

    /// The refusal to be noted, at the broker or at the result backend.
    pub(crate) fn refusal(&self, work: Work) -> Refusal {
        let effect = if self.need == Need::Comfort { Effect::Limited } else { Effect::Unready };
        Refusal::new(work, &self.name, format!("{} ({})", self.consequence, self.reason)).with(effect)
    }
}

/// Asks now and then which rights are missing at a result backend with a database of its own.
pub(crate) async fn watch_results(link: Link, key: String, refusals: Arc<Refusals>) {
    let rights = Rights::of_results(&key);
    loop {
        let mut ask = Pipeline::new();
        rights.ask(&mut ask);
        if let Ok(replies) = link.send(&mut ask).await {
            let missing = rights.missing(&replies);
            refusals
                .replace(Work::Results, missing.iter().map(|right| right.refusal(Work::Results)).collect());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// The rights that are asked for.
pub(crate) struct Rights {
    asked: Vec<Right>,
}

impl Rights {
    /// The rights of a worker; `results` is the key of a result, if results are kept in the broker's database.
    ///
    /// A server that does not know `MULTI` would carry the commands out: they change nothing but a key that nobody uses.
    pub(crate) fn of_worker(keys: &Keys, worker: &str, queue: Option<&str>, results: Option<&str>) -> Self {
        let scratch = keys.scratch(worker);
        let queue = queue.map_or_else(|| scratch.clone(), |queue| keys.queue(queue, 0));
        let mut rights = Self { asked: Vec::new() };
        let mut ask = |need, consequence, commands: &[&[&str]]| rights.add(need, consequence, commands);
        let (unacked, index) = (keys.unacked.as_str(), keys.unacked_index.as_str());
        let (scratch, queue) = (scratch.as_str(), queue.as_str());
        ask(
            Need::Everything,
            "nothing can be taken from queues",
            &[
                &["EVAL", "return 0", "1", scratch],
                &["GET", scratch],
                &["LRANGE", scratch, "0", "-1"],
                &["ZADD", keys.inflight_index.as_str(), "XX", "0", ""],
            ],
        );
        ask(
            Need::Everything,
            "nothing can be committed",
            &[
                &["SET", scratch, "", "EX", "1"],
                &["DEL", scratch],
                &["LPUSH", scratch, ""],
                &["HSET", scratch, "", ""],
                &["HDEL", unacked, ""],
                &["ZREM", index, ""],
            ],
        );
        if let Some(results) = results {
            ask(
                Need::Everything,
                "no result can be stored",
                &[&["SET", results, "", "EX", "1"], &["PUBLISH", results, ""]],
            );
        }
        ask(
            Need::Something,
            "messages of dead workers are not brought back by this one",
            &[
                &["ZRANGEBYSCORE", index, "0", "0"],
                &["ZSCORE", index, ""],
                &["HGET", unacked, ""],
                &["HEXISTS", unacked, ""],
                &["RPUSH", scratch, ""],
                &["LREM", scratch, "0", ""],
                &["SET", keys.unacked_mutex.as_str(), "", "EX", "1", "NX"],
            ],
        );
        ask(
            Need::Something,
            "queues cannot be bound to exchanges",
            &[&["SADD", scratch, ""], &["SMEMBERS", &keys.bindings("celeriac")]],
        );
        ask(Need::Something, "dead letters have no bounds", &[&["LTRIM", scratch, "0", "0"]]);
        ask(
            Need::Something,
            "chords do not complete, and starts of redelivered messages are not counted",
            &[
                &["EXPIRE", scratch, "1"],
                &["PERSIST", scratch],
                &["INCRBY", scratch, "1"],
                &["ZCARD", scratch],
                &["MGET", scratch],
            ],
        );
        ask(
            Need::Comfort,
            "messages are moved by a script, which takes more of the server's time",
            &[&["LMOVE", scratch, scratch, "RIGHT", "LEFT"]],
        );
        ask(
            Need::Comfort,
            "lengths of queues are guessed: fetching is slower, and metrics have no lengths",
            &[&["LLEN", queue]],
        );
        ask(Need::Comfort, "idle queues are looked at by taking from them", &[&["EXISTS", queue]]);
        ask(
            Need::Comfort,
            "messages that wait for their eta are looked for once a second",
            &[&["ZRANGE", &keys.parked("celeriac"), "0", "0", "WITHSCORES"]],
        );
        ask(
            Need::Comfort,
            "leases go by this machine's clock, which must be right",
            &[&["TIME"], &["DEL", scratch]],
        );
        rights
    }

    /// The rights of a worker at a result backend with a database of its own, of which that is the key of a result.
    pub(crate) fn of_results(key: &str) -> Self {
        let mut rights = Self { asked: Vec::new() };
        let scratch = format!("{key}.scratch");
        let scratch = scratch.as_str();
        rights.add(
            Need::Something,
            "no result can be stored",
            &[
                &["EVAL", "return 0", "1", scratch],
                &["GET", scratch],
                &["SET", scratch, "", "EX", "1"],
                &["DEL", scratch],
                &["PUBLISH", key, ""],
            ],
        );
        rights.add(
            Need::Something,
            "chords do not complete",
            &[
                &["EXPIRE", scratch, "1"],
                &["HGET", scratch, ""],
                &["HSET", scratch, "", ""],
                &["INCRBY", scratch, "1"],
                &["LRANGE", scratch, "0", "-1"],
                &["MGET", scratch],
                &["PERSIST", scratch],
                &["RPUSH", scratch, ""],
                &["SADD", scratch, ""],
                &["TIME"],
                &["ZADD", scratch, "XX", "0", ""],
                &["ZCARD", scratch],
                &["ZRANGE", scratch, "0", "-1"],
                &["ZREM", scratch, ""],
                &["DEL", scratch],
            ],
        );
        rights
    }

    fn add(&mut self, need: Need, consequence: &'static str, commands: &[&[&str]]) {
        self.asked.extend(commands.iter().map(|command| Right {
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            consequence,
            need,
        }));
    }

    /// Writes the question; [`Rights::missing`] reads the replies.
    pub(crate) fn ask(&self, commands: &mut Pipeline) {
        commands.cmd("MULTI");
        for Right { command, .. } in &self.asked {
            let mut asked = cmd(&command[0]);
            asked.arg(&command[1..]);
            commands.add_command(asked);
        }
        // Malformed, so that the transaction is aborted.
        commands.cmd("ECHO");
        commands.cmd("EXEC");
    }

    /// How many replies there are to the question.
    pub(crate) fn replies(&self) -> usize {
        self.asked.len() + 3
    }

    /// The rights that the replies say are missing.
    pub(crate) fn missing(&self, replies: &[Value]) -> Vec<Missing> {
        let Some((begin, replies)) = replies.split_first() else { return Vec::new() };
        if let Some(reason) = refusal(begin) {
            let consequence = "nothing can be committed";
            return vec![Missing { name: "MULTI".to_owned(), need: Need::Everything, consequence, reason }];
        }
        let refused = self.asked.iter().zip(replies).filter_map(|(right, reply)| {
            let reason = refusal(reply)?;
            let Right { command, consequence, need } = right;
            Some(Missing { name: command[0].clone(), need: *need, consequence, reason })
        });
        let mut missing: Vec<Missing> = Vec::new();
        for right in refused {
            match missing.iter_mut().find(|known| known.name == right.name) {
                Some(known) if known.need == Need::Everything => {}
                Some(known) => *known = right,
                None => missing.push(right),
            }
        }
        missing
    }
}

/// The server's words, if a reply says that the user may not do something, or that the server does not know it.
fn refusal(reply: &Value) -> Option<String> {
    server_error(reply).filter(|reason| !is_passing(reason) && code(reason) != "CROSSSLOT")
}
