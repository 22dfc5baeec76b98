//! What one round trip commits, all or nothing.

use redis::{Cmd, Pipeline, Value, cmd};
use tokio::sync::oneshot;

use super::Keys;
use super::link::server_error;

/// The commands of one `MULTI` ... `EXEC`, kept until the server has confirmed them.
#[derive(Default)]
pub(crate) struct Transaction {
    /// By which it is known after a lost reply.
    pub(crate) number: u64,
    /// Tags of recorded messages that are done with.
    pub(crate) acked: Vec<String>,
    /// In-flight lists of which every message is settled or recorded.
    pub(crate) delete: Vec<String>,
    /// The numbers of those lists.
    pub(crate) slots: Vec<usize>,
    records: Vec<(String, f64, Vec<u8>)>,
    commands: Vec<Cmd>,
    listeners: Vec<Listener>,
    own: Vec<Cmd>,
    /// How many commands of each kind are in the pipeline.
    written: (usize, usize),
}

/// Who waits for the replies of which commands.
struct Listener {
    first: usize,
    count: usize,
    replies: oneshot::Sender<Vec<Value>>,
}

impl Transaction {
    pub(crate) fn is_empty(&self) -> bool {
        let listed = self.acked.len() + self.delete.len() + self.records.len();
        listed + self.commands.len() + self.own.len() == 0
    }

    /// Whether more than bookkeeping was written.
    pub(crate) fn wrote_commands(&self) -> bool {
        self.written.0 > 0
    }

    /// Adds commands of a settlement.
    pub(crate) fn add(&mut self, commands: Vec<Cmd>, replies: Option<oneshot::Sender<Vec<Value>>>) {
        if let Some(replies) = replies {
            self.listeners.push(Listener { first: self.commands.len(), count: commands.len(), replies });
        }
        self.commands.extend(commands);
    }

    /// Adds a message that goes back to a list.
    pub(crate) fn push(&mut self, name: &str, list: String, raw: Vec<u8>) {
        let mut command = cmd(name);
        command.arg(list).arg(raw);
        self.commands.push(command);
    }

    /// Adds a message that stays with the worker.
    pub(crate) fn record(&mut self, tag: &str, score: f64, value: Vec<u8>) {
        self.records.push((tag.to_owned(), score, value));
    }

    /// Makes the bookkeeping commands: nothing is added afterwards.
    pub(crate) fn seal(&mut self, number: u64, keys: &Keys, worker: &str) {
        self.number = number;
        if !self.records.is_empty() {
            let (mut index, mut hash) = (cmd("ZADD"), cmd("HSET"));
            index.arg(&keys.unacked_index);
            hash.arg(&keys.unacked);
            for (tag, score, value) in self.records.drain(..) {
                index.arg(score).arg(&tag);
                hash.arg(&tag).arg(value);
            }
            self.own.extend([index, hash]);
        }
        if !self.acked.is_empty() {
            let (mut index, mut hash) = (cmd("ZREM"), cmd("HDEL"));
            index.arg(&keys.unacked_index).arg(&self.acked);
            hash.arg(&keys.unacked).arg(&self.acked);
            self.own.extend([index, hash]);
        }
        if !self.delete.is_empty() {
            let mut delete = cmd("DEL");
            delete.arg(&self.delete);
            self.own.push(delete);
        }
        if !self.commands.is_empty() {
            let mut marker = cmd("SET");
            marker.arg(keys.committed(worker)).arg(number).arg("EX").arg(86_400);
            self.own.push(marker);
        }
    }

    /// Appends the transaction and returns how many replies it will have. The commands go into the pipeline; until the
    /// server has confirmed them they can be taken back from there.
    pub(crate) fn write(&mut self, pipeline: &mut Pipeline) -> usize {
        self.written = (self.commands.len(), self.own.len());
        let count = self.commands.len() + self.own.len();
        if count > 1 {
            pipeline.cmd("MULTI");
        }
        for command in self.commands.drain(..).chain(self.own.drain(..)) {
            pipeline.add_command(command);
        }
        if count == 1 {
            return 1;
        }
        pipeline.cmd("EXEC");
        count + 2
    }

    /// Takes the commands back from the pipeline that they were written into.
    pub(crate) fn take_back(&mut self, pipeline: &Pipeline) {
        let (commands, own) = self.written;
        let mut written = pipeline.cmd_iter().skip(usize::from(commands + own > 1)).cloned();
        self.commands.extend(written.by_ref().take(commands));
        self.own.extend(written.take(own));
    }

    /// The replies to the commands, or why nothing was carried out.
    pub(crate) fn outcome(&self, mut answers: Vec<Value>) -> Result<Vec<Value>, String> {
        match answers.pop() {
            Some(Value::Array(replies)) => {
                for reason in replies.iter().filter_map(server_error) {
                    log::error!(error = reason.as_str(); "A command of a transaction failed: {reason}");
                }
                Ok(replies)
            }
            Some(reply) if answers.is_empty() => match server_error(&reply) {
                Some(reason) => Err(reason),
                None => Ok(vec![reply]),
            },
            Some(reply) => Err(answers
                .iter()
                .chain([&reply])
                .find_map(server_error)
                .unwrap_or_else(|| format!("{reply:?}"))),
            None => Err("no reply".to_owned()),
        }
    }

    /// Hands the replies to those who wait for them.
    pub(crate) fn answer(self, replies: Option<Vec<Value>>) {
        let Some(replies) = replies else { return };
        for listener in self.listeners {
            let range = listener.first..listener.first + listener.count;
            // A listener that is gone no longer wants to know.
            let _ = listener.replies.send(replies.get(range).map(<[Value]>::to_vec).unwrap_or_default());
        }
    }
}
