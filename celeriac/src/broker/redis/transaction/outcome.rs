//! The outcome of a transaction: the replies, or which commands the server refused.

use redis::Value;

use super::{Transaction, Written};
use crate::broker::redis::connection::server_error;
use crate::broker::redis::consumer::Part;
use crate::broker::refusal::{self, RefusalKind, UNSELECTED};

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

/// The reason why nothing of a transaction was carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// For these commands of its parts.
    For(Vec<Fault>),
    /// For no part of it, in the server's words.
    Whole(String),
    /// Since it reaches two databases.
    Selecting(String),
}

/// The outcome of a transaction that was carried out.
pub(crate) struct Done {
    /// The replies to the commands, some of which may be errors.
    pub(crate) replies: Vec<Value>,
    /// The reason why the database was not changed, so that commands for results went to that of the broker, in the server's words.
    pub(crate) misled: Option<String>,
    /// The reason why the connection was left in the database of the results, in the server's words.
    pub(crate) stranded: Option<String>,
}

impl Refused {
    /// The server's words, the first ones.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Refused::For(faults) => faults.first().map_or("", |fault| &fault.reason),
            Refused::Whole(reason) | Refused::Selecting(reason) => reason,
        }
    }
}

impl Transaction {
    /// The replies to the commands, some of which may be errors, or why nothing was carried out.
    pub(crate) fn outcome(&self, mut answers: Vec<Value>) -> Result<Done, Refused> {
        let Some(last) = answers.pop() else { return Err(Refused::Whole("no reply".to_owned())) };
        if let Value::Array(mut replies) = last {
            let [misled, stranded] = self.take_selections(&mut replies);
            return Ok(Done { replies, misled, stranded });
        }
        if answers.is_empty() {
            return match server_error(&last) {
                Some(reason) if self.is_exchange() && refusal::code(&reason) == UNSELECTED => {
                    Err(Refused::Selecting(reason))
                }
                Some(reason) if self.is_exchange() => Err(Refused::Whole(reason)),
                Some(reason) => Err(self.refused(vec![Fault { place: self.place(0), reason }])),
                None => Ok(Done { replies: vec![last], misled: None, stranded: None }),
            };
        }
        let begun = answers.remove(0);
        if let Some(reason) = server_error(&begun) {
            return Err(Refused::Whole(reason));
        }
        if let Some(reason) = self.take_selections(&mut answers).into_iter().flatten().next() {
            return Err(match refusal::kind(&reason) {
                RefusalKind::Lasting => Refused::Selecting(reason),
                _ => Refused::Whole(reason),
            });
        }
        let faults = self.faults(&answers);
        match faults.is_empty() {
            true => Err(Refused::Whole(server_error(&last).unwrap_or_else(|| format!("{last:?}")))),
            false => Err(self.refused(faults)),
        }
    }

    /// Takes the replies to `SELECT` out, there and back, and returns the errors among them.
    fn take_selections(&self, replies: &mut Vec<Value>) -> [Option<String>; 2] {
        let Written::Taken { parts, recording, closing, selects: true } = &self.written else {
            return [None, None];
        };
        let first = recording + closing + parts.iter().map(|(broker, _)| broker).sum::<usize>();
        let back = replies.pop();
        let there = (first < replies.len()).then(|| replies.remove(first));
        [there, back].map(|reply| server_error(&reply?))
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

    /// The errors among the replies to the commands, in the order of the parts.
    pub(crate) fn faults(&self, replies: &[Value]) -> Vec<Fault> {
        let errors =
            replies.iter().enumerate().filter_map(|(index, reply)| Some((index, server_error(reply)?)));
        let mut faults: Vec<Fault> =
            errors.map(|(index, reason)| Fault { place: self.place(index), reason }).collect();
        faults.sort_by_key(|fault| match fault.place {
            Place::Part(part, command) => (part, command),
            Place::Bookkeeping(index) => (usize::MAX, index),
        });
        faults
    }

    /// Adds faults of all commands for the results, which were carried out in the wrong database.
    pub(crate) fn mislead(&self, faults: &mut Vec<Fault>, reason: &str) {
        let (.., counts) = self.counts();
        let misled = counts.enumerate().flat_map(|(part, (broker, results))| {
            (broker..broker + results).map(move |command| Place::Part(part, command))
        });
        let misled: Vec<Place> = misled.collect();
        faults.retain(|fault| !misled.contains(&fault.place));
        faults.extend(misled.into_iter().map(|place| Fault { place, reason: reason.to_owned() }));
    }

    /// Where the command of that number stands.
    fn place(&self, index: usize) -> Place {
        let (recording, closing, counts) = self.counts();
        let Some(mut left) = index.checked_sub(recording) else { return Place::Bookkeeping(index) };
        let counts: Vec<(usize, usize)> = counts.collect();
        for (part, (broker, _)) in counts.iter().enumerate() {
            match left.checked_sub(*broker) {
                Some(rest) => left = rest,
                None => return Place::Part(part, left),
            }
        }
        let Some(mut left) = left.checked_sub(closing) else { return Place::Bookkeeping(recording + left) };
        for (part, (broker, results)) in counts.iter().enumerate() {
            match left.checked_sub(*results) {
                Some(rest) => left = rest,
                None => return Place::Part(part, broker + left),
            }
        }
        Place::Bookkeeping(recording + closing + left)
    }

    /// The numbers of commands: those that record, those that close it, and each part's for broker and results.
    fn counts(&self) -> (usize, usize, impl Iterator<Item = (usize, usize)>) {
        let (recording, closing, taken) = match &self.written {
            Written::Taken { parts, recording, closing, .. } => (*recording, *closing, Some(parts)),
            _ => (self.recording.len(), self.closing.len(), None),
        };
        let count = move |(index, part): (usize, &Part)| {
            taken.map_or((part.commands.broker.len(), part.commands.results.len()), |taken| taken[index])
        };
        (recording, closing, self.parts.iter().enumerate().map(count))
    }

    /// Hands the replies, if they are known, to those who wait for the transaction to be carried out; `ended` hears of
    /// each settlement that stands in for another.
    pub(crate) fn answer(self, replies: Option<Vec<Value>>, mut ended: impl FnMut(u64)) {
        let replies = replies.unwrap_or_default();
        let (mut first, closing, counts) = self.counts();
        let counts: Vec<(usize, usize)> = counts.collect();
        let mut first_result = first + closing + counts.iter().map(|(broker, _)| broker).sum::<usize>();
        for (part, (broker, results)) in self.parts.into_iter().zip(counts) {
            if let Some(listener) = part.answers {
                // The command that moves the message is none of the listener's; one that is gone no longer wants to know.
                let own = first..first + broker.saturating_sub(usize::from(part.acknowledges_itself));
                let own = [own, first_result..first_result + results];
                let own = own.map(|own| replies.get(own).unwrap_or_default());
                let _ = listener.send(Ok(own.concat().into()));
            }
            part.replaces.map(&mut ended);
            first += broker;
            first_result += results;
        }
    }
}
