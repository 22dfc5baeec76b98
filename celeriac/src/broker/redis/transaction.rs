//! What one round trip commits, all or nothing.

use std::collections::BTreeMap;

use redis::{Cmd, Pipeline, Value, cmd};

use super::Keys;
use super::connection::server_error;
use super::consumer::{Entry, MARK, Part};
use super::exchange::{arguments, exchange};

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
    /// How often it was refused or broke its connection, with nobody to blame.
    pub(crate) failures: u32,
    /// Whether its settlements are tried apart from the others.
    pub(crate) is_suspect: bool,
    parts: Vec<Part>,
    records: Vec<Record>,
    /// What records messages in kombu's keys.
    recording: Vec<Cmd>,
    /// Whether another worker may go on with what is recorded.
    gives_away: bool,
    /// The tags of the messages with which another worker may go on.
    parked: Vec<String>,
    /// Acknowledgements, deletions, the marker.
    closing: Vec<Cmd>,
    written: Written,
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

/// A command that failed, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) place: Place,
    /// The server's words.
    pub(crate) reason: String,
}

/// Where a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// That command of that part.
    Part(usize, usize),
    /// Among those that record, acknowledge, delete, or mark.
    Bookkeeping(usize),
}

/// Why nothing of a transaction was carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// For these commands of its parts.
    For(Vec<Fault>),
    /// For no part of it, in the server's words.
    Whole(String),
}

impl Refused {
    /// The server's words, the first ones.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Refused::For(faults) => faults.first().map_or("", |fault| &fault.reason),
            Refused::Whole(reason) => reason,
        }
    }
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

    /// Whether it is written in the form that a full server lets pass.
    pub(crate) fn is_exchange(&self) -> bool {
        matches!(self.written, Written::Copied)
    }

    /// Adds a settlement.
    pub(crate) fn add(&mut self, part: Part) {
        self.parts.push(part);
    }

    /// Takes all settlements out.
    pub(crate) fn take_parts(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.parts)
    }

    /// How many settlements are more than an acknowledgement.
    pub(crate) fn commanding(&self) -> usize {
        self.parts.iter().filter(|part| !part.commands.is_empty()).count()
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
            self.closing.extend(acknowledge(keys, tags));
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
                    self.parked.push(tag.clone());
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
    ///
    /// What records stands in front: a message that a part moves elsewhere is acknowledged by the command that moves it.
    pub(crate) fn write(&mut self, pipeline: &mut Pipeline) -> usize {
        let parts: Vec<usize> = self.parts.iter().map(|part| part.commands.len()).collect();
        let (recording, closing) = (self.recording.len(), self.closing.len());
        let count = parts.iter().sum::<usize>() + recording + closing;
        self.written = Written::Taken { parts, recording, closing };
        if count > 1 {
            pipeline.cmd("MULTI");
        }
        let commands = self.parts.iter_mut().flat_map(|part| part.commands.drain(..));
        for command in self.recording.drain(..).chain(commands).chain(self.closing.drain(..)) {
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
        pipeline.add_command(exchange(scratch, self.recording.iter().chain(commands).chain(&self.closing)));
        1
    }

    /// Takes the commands back from the pipeline that they were written into.
    pub(crate) fn take_back(&mut self, pipeline: &Pipeline) {
        if let Written::Taken { parts, recording, closing } = std::mem::take(&mut self.written) {
            let count = parts.iter().sum::<usize>() + recording + closing;
            let mut written = pipeline.cmd_iter().skip(usize::from(count > 1)).cloned();
            self.recording.extend(written.by_ref().take(recording));
            for (part, count) in self.parts.iter_mut().zip(parts) {
                part.commands.extend(written.by_ref().take(count));
            }
            self.closing.extend(written.take(closing));
        }
    }

    /// The replies to the commands, some of which may be errors, or why nothing was carried out.
    pub(crate) fn outcome(&self, mut answers: Vec<Value>) -> Result<Vec<Value>, Refused> {
        let Some(last) = answers.pop() else { return Err(Refused::Whole("no reply".to_owned())) };
        if let Value::Array(replies) = last {
            return Ok(replies);
        }
        if answers.is_empty() {
            return match server_error(&last) {
                Some(reason) if self.is_exchange() => Err(Refused::Whole(reason)),
                Some(reason) => Err(self.refused(vec![Fault { place: self.place(0), reason }])),
                None => Ok(vec![last]),
            };
        }
        if let Some(reason) = server_error(&answers[0]) {
            return Err(Refused::Whole(reason));
        }
        let faults = self.faults(&answers[1..]);
        match faults.is_empty() {
            true => Err(Refused::Whole(server_error(&last).unwrap_or_else(|| format!("{last:?}")))),
            false => Err(self.refused(faults)),
        }
    }

    /// A refusal for those commands, and of the whole if bookkeeping is among them.
    fn refused(&self, faults: Vec<Fault>) -> Refused {
        match faults.iter().position(|fault| matches!(fault.place, Place::Bookkeeping(_))) {
            Some(place) => {
                Refused::Whole(faults.into_iter().nth(place).map_or_else(String::new, |fault| fault.reason))
            }
            None => Refused::For(faults),
        }
    }

    /// The errors among the replies to the commands.
    pub(crate) fn faults(&self, replies: &[Value]) -> Vec<Fault> {
        let errors =
            replies.iter().enumerate().filter_map(|(index, reply)| Some((index, server_error(reply)?)));
        errors.map(|(index, reason)| Fault { place: self.place(index), reason }).collect()
    }

    /// Where the command of that number stands.
    fn place(&self, index: usize) -> Place {
        let (recording, counts) = self.counts();
        let Some(mut left) = index.checked_sub(recording) else { return Place::Bookkeeping(index) };
        for (part, count) in counts.enumerate() {
            match left.checked_sub(count) {
                Some(rest) => left = rest,
                None => return Place::Part(part, left),
            }
        }
        Place::Bookkeeping(recording + left)
    }

    /// How many commands record, and how many each part has.
    fn counts(&self) -> (usize, impl Iterator<Item = usize>) {
        let (recording, taken) = match &self.written {
            Written::Taken { parts, recording, .. } => (*recording, Some(parts)),
            _ => (self.recording.len(), None),
        };
        let count =
            move |(index, part): (usize, &Part)| taken.map_or(part.commands.len(), |taken| taken[index]);
        (recording, self.parts.iter().enumerate().map(count))
    }

    /// What is left to do of a bookkeeping command that failed at run time: messages that are held still are recorded anew
    /// by whoever holds them, and what is settled meanwhile must not be recorded again.
    pub(crate) fn bookkeeping_again(&self, index: usize, keys: &Keys) -> Option<Cmd> {
        let command = self.bookkeeping(index)?;
        let mut arguments = arguments(command);
        let (name, key) = (arguments.next()?, arguments.next()?);
        let is_index = key == keys.unacked_index.as_bytes();
        if index >= self.recording.len() || !is_index && key != keys.unacked.as_bytes() {
            return Some(command.clone());
        }
        let mut again = Cmd::new();
        again.arg(name).arg(key);
        let mut any = false;
        while let (Some(first), Some(second)) = (arguments.next(), arguments.next()) {
            let tag = if is_index { second } else { first };
            if self.parked.iter().any(|parked| parked.as_bytes() == tag) {
                again.arg(first).arg(second);
                any = true;
            }
        }
        any.then_some(again)
    }

    /// A bookkeeping command that was taken back.
    pub(crate) fn bookkeeping(&self, index: usize) -> Option<&Cmd> {
        self.recording.iter().chain(&self.closing).nth(index)
    }

    /// Hands the replies, if they are known, to those who wait for the transaction to be carried out; `ended` hears of
    /// each settlement that stands in for another.
    pub(crate) fn answer(self, replies: Option<Vec<Value>>, mut ended: impl FnMut(u64)) {
        let replies = replies.unwrap_or_default();
        let (mut first, counts) = self.counts();
        let counts: Vec<usize> = counts.collect();
        for (part, count) in self.parts.into_iter().zip(counts) {
            if let Some(listener) = part.answers {
                // The command that moves the message is none of the listener's; one that is gone no longer wants to know.
                let own = first..first + count.saturating_sub(usize::from(part.acknowledges_itself));
                let _ = listener.send(Ok(replies.get(own).unwrap_or_default().to_vec().into()));
            }
            part.replaces.map(&mut ended);
            first += count;
        }
    }
}

/// The commands that acknowledge recorded messages.
pub(crate) fn acknowledge(keys: &Keys, tags: &[&str]) -> [Cmd; 2] {
    let (mut index, mut hash) = (cmd("ZREM"), cmd("HDEL"));
    index.arg(&keys.unacked_index).arg(tags);
    hash.arg(&keys.unacked).arg(tags);
    [index, hash]
}
