//! What one round trip commits, all or nothing.

use std::collections::BTreeMap;

use redis::{Cmd, Pipeline, Value, cmd};
use tokio::sync::oneshot;

use super::Keys;
use super::connection::server_error;
use super::consumer::{Entry, MARK};
use super::exchange::exchange;

/// Most messages that one bookkeeping command names.
const NAMES: usize = 1000;

/// The commands of one `MULTI` ... `EXEC`, kept until the server has confirmed them.
#[derive(Default)]
pub(crate) struct Transaction {
    /// By which it is known after a lost reply.
    pub(crate) number: u64,
    /// In-flight lists of which every message is settled or recorded.
    pub(crate) delete: Vec<String>,
    /// The numbers of those lists.
    pub(crate) slots: Vec<usize>,
    parts: Vec<Part>,
    records: Vec<Record>,
    /// What records messages in kombu's keys.
    recording: Vec<Cmd>,
    /// Whether another worker may go on with what is recorded.
    gives_away: bool,
    /// Acknowledgements, deletions, the marker.
    closing: Vec<Cmd>,
    written: Written,
}

/// A settlement: its message goes and its commands take effect together.
pub(crate) struct Part {
    /// The message that is done with; acknowledged if it is recorded.
    pub(crate) entry: Option<Entry>,
    /// Commands that take effect together with it.
    pub(crate) commands: Vec<Cmd>,
    /// Whether the commands only put the message somewhere else.
    pub(crate) moves: bool,
    /// Gets the replies to the commands.
    pub(crate) replies: Option<oneshot::Sender<Vec<Value>>>,
}

/// A message that stays on the server as unacknowledged.
struct Record {
    tag: String,
    score: f64,
    value: Vec<u8>,
    /// The sorted set of parked messages, and when this one is due.
    parked: Option<(String, f64)>,
}

/// What is in the pipeline and not here.
#[derive(Default)]
enum Written {
    #[default]
    Nothing,
    /// How many commands of each part, and how many of the other kinds.
    Taken { parts: Vec<usize>, recording: usize, closing: usize },
    /// A copy of everything.
    Copied,
}

impl Transaction {
    pub(crate) fn is_empty(&self) -> bool {
        let written = self.parts.iter().any(|part| part.is_acknowledgement() || !part.commands.is_empty());
        !written && self.delete.is_empty() && self.records.is_empty() && self.recording.is_empty()
    }

    /// Whether more than bookkeeping was written.
    pub(crate) fn wrote_commands(&self) -> bool {
        match &self.written {
            Written::Nothing => false,
            Written::Taken { parts, .. } => parts.iter().any(|count| *count > 0),
            Written::Copied => self.parts.iter().any(|part| !part.commands.is_empty()),
        }
    }

    /// Adds a settlement.
    pub(crate) fn add(&mut self, part: Part) {
        self.parts.push(part);
    }

    /// Takes all settlements out.
    pub(crate) fn take_parts(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.parts)
    }

    /// Adds a message that stays with the worker.
    pub(crate) fn record(&mut self, entry: &Entry, score: f64) {
        self.records.push(Record {
            tag: entry.tag().to_owned(),
            score,
            value: entry.unacked_value(),
            parked: None,
        });
    }

    /// Adds a message that is put aside until it is due.
    pub(crate) fn park(&mut self, entry: &Entry, score: f64, set: String, due: f64) {
        self.gives_away = true;
        let (tag, mut value) = (entry.tag().to_owned(), entry.unacked_value());
        value.push(MARK);
        self.records.push(Record { tag, score, value, parked: Some((set, due)) });
    }

    /// Makes the bookkeeping commands.
    pub(crate) fn seal(&mut self, number: u64, keys: &Keys, worker: &str) {
        self.number = number;
        self.seal_records(keys);
        self.closing.clear();
        let acked: Vec<&str> =
            self.parts.iter().filter(|part| part.is_acknowledgement()).filter_map(Part::tag).collect();
        for tags in acked.chunks(NAMES) {
            let (mut index, mut hash) = (cmd("ZREM"), cmd("HDEL"));
            index.arg(&keys.unacked_index).arg(tags);
            hash.arg(&keys.unacked).arg(tags);
            self.closing.extend([index, hash]);
        }
        if !self.delete.is_empty() {
            let mut delete = cmd("DEL");
            delete.arg(&self.delete);
            self.closing.push(delete);
        }
        if self.gives_away || self.parts.iter().any(|part| !part.commands.is_empty()) {
            let mut marker = cmd("SET");
            marker.arg(keys.committed(worker)).arg(number).arg("EX").arg(86_400);
            self.closing.push(marker);
        }
    }

    fn seal_records(&mut self, keys: &Keys) {
        let mut parked: BTreeMap<String, Vec<(f64, String)>> = BTreeMap::new();
        while !self.records.is_empty() {
            let (mut index, mut hash) = (cmd("ZADD"), cmd("HSET"));
            index.arg(&keys.unacked_index);
            hash.arg(&keys.unacked);
            for Record { tag, score, value, parked: at } in
                self.records.drain(..NAMES.min(self.records.len()))
            {
                index.arg(score).arg(&tag);
                hash.arg(&tag).arg(value);
                if let Some((set, due)) = at {
                    parked.entry(set).or_default().push((due, tag));
                }
            }
            self.recording.extend([index, hash]);
        }
        for (set, messages) in parked {
            for messages in messages.chunks(NAMES) {
                let mut park = cmd("ZADD");
                park.arg(&set);
                for (due, tag) in messages {
                    park.arg(*due).arg(tag);
                }
                self.recording.push(park);
            }
        }
    }

    /// Appends the transaction and returns how many replies it will have. The commands go into the pipeline; until the
    /// server has confirmed them they can be taken back from there.
    pub(crate) fn write(&mut self, pipeline: &mut Pipeline) -> usize {
        let parts: Vec<usize> = self.parts.iter().map(|part| part.commands.len()).collect();
        let (recording, closing) = (self.recording.len(), self.closing.len());
        let count = parts.iter().sum::<usize>() + recording + closing;
        self.written = Written::Taken { parts, recording, closing };
        if count > 1 {
            pipeline.cmd("MULTI");
        }
        let commands = self.parts.iter_mut().flat_map(|part| part.commands.drain(..));
        for command in commands.chain(self.recording.drain(..)).chain(self.closing.drain(..)) {
            pipeline.add_command(command);
        }
        if count == 1 {
            return 1;
        }
        pipeline.cmd("EXEC");
        count + 2
    }

    /// Appends the transaction in the form that a full server lets pass; see [`exchange`].
    pub(crate) fn write_exchange(&mut self, scratch: &str, pipeline: &mut Pipeline) -> usize {
        self.written = Written::Copied;
        let commands = self.parts.iter().flat_map(|part| &part.commands);
        pipeline.add_command(exchange(scratch, commands.chain(&self.recording).chain(&self.closing)));
        1
    }

    /// Takes the commands back from the pipeline that they were written into.
    pub(crate) fn take_back(&mut self, pipeline: &Pipeline) {
        if let Written::Taken { parts, recording, closing } = std::mem::take(&mut self.written) {
            let count = parts.iter().sum::<usize>() + recording + closing;
            let mut written = pipeline.cmd_iter().skip(usize::from(count > 1)).cloned();
            for (part, count) in self.parts.iter_mut().zip(parts) {
                part.commands.extend(written.by_ref().take(count));
            }
            self.recording.extend(written.by_ref().take(recording));
            self.closing.extend(written.take(closing));
        }
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

    /// Hands the replies, if they are known, to those who wait for the transaction to be carried out.
    pub(crate) fn answer(self, replies: Option<Vec<Value>>) {
        let replies = replies.unwrap_or_default();
        let counts: Vec<usize> = match self.written {
            Written::Taken { parts, .. } => parts,
            _ => self.parts.iter().map(|part| part.commands.len()).collect(),
        };
        let mut first = 0;
        for (part, count) in self.parts.into_iter().zip(counts) {
            if let Some(listener) = part.replies {
                // A listener that is gone no longer wants to know.
                let _ = listener.send(replies.get(first..first + count).unwrap_or_default().to_vec());
            }
            first += count;
        }
    }
}

impl Part {
    /// Whether a recorded message is done with.
    fn is_acknowledgement(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.slot.is_none())
    }

    fn tag(&self) -> Option<&str> {
        self.entry.as_ref().map(Entry::tag)
    }
}
