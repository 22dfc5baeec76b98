//! The commands that a worker needs of its broker, asked for at each connection.
//!
//! The server is given each of them in a `MULTI` that cannot be carried out, as its last command is malformed: a server
//! checks the rights of a user when a command is queued (`processCommand` in Redis' `server.c`). So nothing happens, and
//! no right to `ACL` is needed.

use redis::{Pipeline, Value, cmd};

use super::Keys;
use super::connection::server_error;
use super::refusals::{Effect, Refusal, Work, code, is_passing};

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

impl Missing {
    /// A missing right to something that a worker can do without.
    pub(crate) fn comfort(name: &str, consequence: &'static str, reason: String) -> Self {
        Self { name: name.to_owned(), need: Need::Comfort, consequence, reason }
    }

    /// The refusal to be noted.
    pub(crate) fn refusal(&self) -> Refusal {
        let effect = if self.need == Need::Comfort { Effect::Limited } else { Effect::Unready };
        Refusal::new(Work::Right, &self.name, format!("{} ({})", self.consequence, self.reason)).with(effect)
    }
}

/// The rights that are asked for.
pub(crate) struct Rights {
    asked: Vec<Right>,
}

impl Rights {
    /// The rights of a worker; `results` is the key of a result, if results are kept in the broker's database.
    pub(crate) fn of_worker(keys: &Keys, worker: &str, queue: Option<&str>, results: Option<&str>) -> Self {
        let scratch = keys.scratch(worker);
        let queue = queue.map_or_else(|| scratch.clone(), |queue| keys.queue(queue, 0));
        let mut asked = Vec::new();
        let mut ask = |need, consequence, commands: &[&[&str]]| {
            asked.extend(commands.iter().map(|command| Right {
                command: command.iter().map(|part| (*part).to_owned()).collect(),
                consequence,
                need,
            }));
        };
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
                &["LPUSH", queue, ""],
                &["HSET", unacked, "", ""],
                &["HDEL", unacked, ""],
                &["ZREM", index, ""],
            ],
        );
        if let Some(results) = results {
            ask(
                Need::Everything,
                "no result can be stored",
                &[&["SET", results, ""], &["PUBLISH", results, ""]],
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
                &["RPUSH", queue, ""],
                &["LREM", scratch, "0", ""],
                &["SET", keys.unacked_mutex.as_str(), "", "NX"],
            ],
        );
        ask(
            Need::Something,
            "queues cannot be bound to exchanges",
            &[&["SADD", &keys.bindings("celeriac"), ""], &["SMEMBERS", &keys.bindings("celeriac")]],
        );
        ask(
            Need::Something,
            "chords do not complete, and starts of redelivered messages are not counted",
            &[
                &["EXPIRE", scratch, "1"],
                &["PERSIST", scratch],
                &["INCRBY", scratch, "1"],
                &["ZCARD", scratch],
            ],
        );
        ask(
            Need::Comfort,
            "messages are moved by a script, which takes more of the server's time",
            &[&["LMOVE", queue, scratch, "RIGHT", "LEFT"]],
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
        ask(Need::Comfort, "leases go by this machine's clock, which must be right", &[&["TIME"]]);
        Self { asked }
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
