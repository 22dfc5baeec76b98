//! What one round trip commits, all or nothing.

mod outcome;

use std::collections::BTreeMap;

use redis::{Cmd, Pipeline, cmd};

pub(crate) use outcome::{Done, Fault, Place, Refused};

use super::Keys;
use super::consumer::{Entry, MARK, Part};
use super::exchange::{arguments, exchange};
use super::selection::Selection;

/// Most messages that one bookkeeping command names.
const NAMES: usize = 1000;

/// The commands of one `MULTI` ... `EXEC`, kept until the server has confirmed them.
///
/// First come those that record, then those of the parts for the broker, then those that close it; last those of the parts
/// for the results, since these may be in another database.
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
    /// How many commands of each part, for the broker and for the results, how many of the other kinds, and whether the
    /// database is changed in between.
    Taken { parts: Vec<(usize, usize)>, recording: usize, closing: usize, selects: bool },
    /// A copy of everything.
    Copied,
}

impl Transaction {
    pub(crate) fn is_empty(&self) -> bool {
        let written = self.parts.iter().any(|part| part.is_acknowledgement() || !part.commands.is_empty());
        !written && self.delete.is_empty() && self.records.is_empty() && self.recording.is_empty()
    }

    /// Returns whether more than bookkeeping was written for the broker: messages perhaps, which are never written for results.
    pub(crate) fn wrote_for_broker(&self) -> bool {
        match &self.written {
            Written::Nothing => false,
            Written::Taken { parts, .. } => parts.iter().any(|(broker, _)| *broker > 0),
            Written::Copied => self.parts.iter().any(|part| !part.commands.broker.is_empty()),
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
    pub(crate) fn write(&mut self, selection: Option<&Selection>, pipeline: &mut Pipeline) -> usize {
        let part = |part: &Part| (part.commands.broker.len(), part.commands.results.len());
        let parts: Vec<(usize, usize)> = self.parts.iter().map(part).collect();
        let (recording, closing) = (self.recording.len(), self.closing.len());
        let count =
            parts.iter().map(|(broker, results)| broker + results).sum::<usize>() + recording + closing;
        let selection = selection.filter(|_| parts.iter().any(|(_, results)| *results > 0));
        self.written = Written::Taken { parts, recording, closing, selects: selection.is_some() };
        if count > 1 {
            pipeline.cmd("MULTI");
        }
        let commands = self.parts.iter_mut().flat_map(|part| part.commands.broker.drain(..));
        for command in self.recording.drain(..).chain(commands).chain(self.closing.drain(..)) {
            pipeline.add_command(command);
        }
        if let Some(selection) = selection {
            pipeline.add_command(selection.to_results());
        }
        for command in self.parts.iter_mut().flat_map(|part| part.commands.results.drain(..)) {
            pipeline.add_command(command);
        }
        if let Some(selection) = selection {
            pipeline.add_command(selection.to_broker());
        }
        if count == 1 {
            return 1;
        }
        pipeline.cmd("EXEC");
        count + if selection.is_some() { 4 } else { 2 }
    }

    /// Appends the transaction in the form that a full server lets pass; see [`exchange`].
    pub(crate) fn write_exchange(
        &mut self,
        selection: Option<&Selection>,
        scratch: &str,
        pipeline: &mut Pipeline,
    ) -> usize {
        self.written = Written::Copied;
        let selection = selection.filter(|_| self.has_results());
        let before = selection.map(|selection| {
            let [first, second] = selection.probe();
            [first, second, selection.to_broker()]
        });
        let between = selection.map(Selection::to_results);
        let commands = self.parts.iter().flat_map(|part| &part.commands.broker);
        let all = before.iter().flatten().chain(&self.recording).chain(commands).chain(&self.closing);
        let results = self.parts.iter().flat_map(|part| &part.commands.results);
        pipeline.add_command(exchange(scratch, all.chain(&between).chain(results)));
        1
    }

    /// Whether anything is for the results.
    pub(crate) fn has_results(&self) -> bool {
        self.parts.iter().any(|part| !part.commands.results.is_empty())
    }

    /// Takes the commands back from the pipeline that they were written into.
    pub(crate) fn take_back(&mut self, pipeline: &Pipeline) {
        if let Written::Taken { parts, recording, closing, selects } = std::mem::take(&mut self.written) {
            let count: usize = parts.iter().map(|(broker, results)| broker + results).sum();
            let mut written = pipeline.cmd_iter().skip(usize::from(count + recording + closing > 1)).cloned();
            self.recording.extend(written.by_ref().take(recording));
            for (part, (broker, _)) in self.parts.iter_mut().zip(&parts) {
                part.commands.broker.extend(written.by_ref().take(*broker));
            }
            self.closing.extend(written.by_ref().take(closing));
            let mut written = written.skip(usize::from(selects));
            for (part, (_, results)) in self.parts.iter_mut().zip(parts) {
                part.commands.results.extend(written.by_ref().take(results));
            }
        }
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
}

/// The commands that acknowledge recorded messages.
pub(crate) fn acknowledge(keys: &Keys, tags: &[&str]) -> [Cmd; 2] {
    let (mut index, mut hash) = (cmd("ZREM"), cmd("HDEL"));
    index.arg(&keys.unacked_index).arg(tags);
    hash.arg(&keys.unacked).arg(tags);
    [index, hash]
}
