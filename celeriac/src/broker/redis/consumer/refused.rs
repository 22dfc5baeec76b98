//! What becomes of settlements that the server refuses: the one to blame is found and waits or is given up, all others
//! go on.
//!
//! The server names the command that it does not queue, and its errors at run time. Where it names none (it refuses
//! `EXEC`, or closes the connection) the settlements of the transaction are halved until one is alone.

use std::time::Duration;

use redis::{Cmd, Value};

use super::Consumer;
use super::part::Part;
use crate::broker::redis::connection::{Connection, replies};
use crate::broker::redis::exchange::arguments;
use crate::broker::redis::limit::{ask_for_limit, limit};
use crate::broker::redis::transaction::{Fault, Place, Transaction};
use crate::broker::refusal::{self, Refusal, RefusalKind};
use crate::broker::{DeadLetter, DeadReason, Hopeless, Receiver};

/// How many settlements may stand in for one, one after the other, each asking for less, while the task still fails.
const LEVELS: u8 = 2;
/// How long it is tried to let the task fail before its message alone is kept: a wrong right is soon repaired.
const PATIENCE: Duration = Duration::from_secs(60);

impl<R: Receiver> Consumer<R> {
    /// Adds settlements that were put aside, each as it was.
    pub(super) fn try_again(&mut self, transaction: &mut Transaction, parts: Vec<Part>) {
        transaction.is_suspect = true;
        for mut part in parts {
            part.entry = part.serial.and_then(|serial| self.held.remove(serial));
            if let Some(entry) = &mut part.entry
                && let Some(slot) = entry.slot
            {
                self.slots.settle(slot, entry.raw.clone());
            }
            transaction.add(part);
        }
    }

    /// Goes on after the server has refused commands of some settlements: without those.
    pub(super) fn exclude(&mut self, faults: Vec<Fault>) {
        let Some(mut transaction) = self.transaction.take() else { return };
        let mut faults = faults.into_iter().peekable();
        for (index, part) in transaction.take_parts().into_iter().enumerate() {
            let mut first = None;
            while let Some(fault) =
                faults.next_if(|fault| matches!(fault.place, Place::Part(part, _) if part <= index))
            {
                first = first.or(Some(fault));
            }
            match first {
                None => transaction.add(part),
                Some(Fault { place, reason }) => {
                    let Place::Part(_, command) = place else { continue };
                    let refusal = part.commands.get(command).map_or_else(
                        || Refusal::unknown(reason.clone()),
                        |command| Refusal::of(command, reason.clone()),
                    );
                    let part = self.hold_apart(Some(&mut transaction), part);
                    self.strike(part, refusal, true);
                }
            }
        }
        self.reseal(transaction);
    }

    /// Goes on after a transaction was carried out of which commands failed: those wait, with their messages.
    pub(super) fn confirm_in_part(
        &mut self,
        mut transaction: Transaction,
        replies: Vec<Value>,
        faults: Vec<Fault>,
    ) {
        let mut bookkeeping = Part { moves: true, ..Part::default() };
        let mut failed: Vec<Vec<(usize, String)>> = Vec::new();
        for Fault { place, reason } in faults {
            match place {
                Place::Part(part, command) => {
                    failed.resize_with(failed.len().max(part + 1), Vec::new);
                    failed[part].push((command, reason));
                }
                Place::Bookkeeping(index) => {
                    if let Some(command) = transaction.bookkeeping(index) {
                        bookkeeping.strike(Refusal::of(command, reason), true);
                        bookkeeping.commands.broker.extend(transaction.bookkeeping_again(index, &self.keys));
                    }
                }
            }
        }
        let mut again = Vec::new();
        let mut parts = transaction.take_parts();
        for (part, failed) in parts.iter_mut().zip(failed) {
            if let Some((first, reason)) = failed.first() {
                let Some(command) = part.commands.get(*first) else { continue };
                let refusal = Refusal::of(command, reason.clone());
                let last = part.commands.broker.len().wrapping_sub(1);
                let is_moved = part.acknowledges_itself && failed.iter().all(|(command, _)| *command != last);
                let commands = part.commands.only(failed.iter().map(|(command, _)| *command));
                let rest = Part {
                    serial: part.serial.filter(|_| !is_moved),
                    entry: part.entry.take().filter(|_| !is_moved),
                    commands,
                    moves: part.moves,
                    acknowledges_itself: part.acknowledges_itself && !is_moved,
                    disposition: part.disposition.take().filter(|_| !is_moved),
                    // What is known of the other replies is not worth keeping: each can be asked again.
                    answers: part.answers.take(),
                    owner: part.owner.take(),
                    replaces: part.replaces.take(),
                    strikes: part.strikes.take(),
                };
                again.push((rest, refusal));
            }
        }
        parts.into_iter().for_each(|part| transaction.add(part));
        self.confirm(transaction, Some(replies));
        for (part, refusal) in again {
            let is_acknowledged = !part.acknowledges_itself;
            let serial = part.serial;
            let part = self.hold_apart(None, part);
            if is_acknowledged {
                self.unrecorded.extend(serial);
            }
            self.strike(part, refusal, true);
        }
        if let Some(strikes) = &bookkeeping.strikes {
            self.troubles.note(&strikes.refusal);
            self.unrecorded.extend(self.held.recorded_serials());
            let pause = bookkeeping.pause();
            self.aside.put(vec![bookkeeping], pause);
        }
    }

    /// Goes on after a transaction was refused, or broke the connection if `is_break`, and no command of it is to blame:
    /// at the second time its settlements are tried apart.
    ///
    /// # Errors
    /// The reason, if nothing could be done but to begin anew.
    pub(super) fn look_for_culprit(&mut self, reason: &str, is_break: bool) -> Result<(), String> {
        let told = Err(format!("the server refused a transaction: {reason}"));
        let Some(mut transaction) = self.transaction.take() else { return told };
        transaction.failures += 1;
        let is_passing = refusal::kind(reason) != RefusalKind::Lasting;
        let is_first = transaction.failures < 2 && !transaction.is_suspect;
        if is_passing || is_first || transaction.commanding() == 0 {
            if !(is_break && is_first) {
                self.troubles.note(&Refusal::unknown(reason.to_owned()));
            }
            self.transaction = Some(transaction);
            return told;
        }
        let (mut suspects, others): (Vec<Part>, Vec<Part>) =
            transaction.take_parts().into_iter().partition(|part| !part.commands.is_empty());
        others.into_iter().for_each(|part| transaction.add(part));
        suspects = suspects.into_iter().map(|part| self.hold_apart(Some(&mut transaction), part)).collect();
        if suspects.len() > 1 {
            let second = suspects.split_off(suspects.len() / 2);
            self.aside.put(suspects, Duration::ZERO);
            self.aside.put(second, Duration::ZERO);
        } else if let Some(part) = suspects.pop() {
            let refusal = match is_break {
                true => Refusal::closed(part.commands.iter(), reason, self.bulk_limit),
                false => Refusal::unknown(reason.to_owned()),
            };
            self.strike(part, refusal, false);
        }
        transaction.is_suspect = false;
        self.reseal(transaction);
        Ok(())
    }

    /// Asks for the limit that the server sets to one argument, if that is not known: what is larger ends the
    /// connection without a word.
    pub(super) async fn learn_limit(&mut self, connection: &mut Connection) {
        if self.bulk_limit.is_some() {
            return;
        }
        // Many servers do not tell; then trying tells.
        if let Ok(found) = replies(connection, &mut ask_for_limit()).await {
            self.bulk_limit = found.first().and_then(limit);
        }
    }

    /// Puts the message of a settlement back among those that are held; an in-flight list in which it was is deleted
    /// with that transaction.
    pub(super) fn hold_apart(&mut self, transaction: Option<&mut Transaction>, mut part: Part) -> Part {
        let score = self.score();
        if let Some(mut entry) = part.entry.take() {
            if entry.slot.take().is_some()
                && let Some(transaction) = transaction
            {
                transaction.record(&entry, score);
            }
            if let Some(serial) = part.serial {
                self.held.insert(serial, entry);
            }
        }
        part
    }

    pub(super) fn reseal(&mut self, mut transaction: Transaction) {
        transaction.seal(transaction.number, &self.keys, &self.worker);
        self.transaction = (!transaction.is_empty()).then_some(transaction);
    }

    /// Notes a refusal of a settlement, which waits or is given up.
    fn strike(&mut self, mut part: Part, refusal: Refusal, is_named: bool) {
        let is_first = part.strikes.is_none();
        if is_first
            && let Some(entry) =
                part.serial.filter(|_| part.acknowledges_itself).and_then(|serial| self.held.get(serial))
        {
            let (id, queue) = (entry.task_id(), &*entry.queue);
            log::warn!(task_id = id.as_str(), queue; "The message of {id} cannot leave queue {queue} for {}: it stays in unacked until it can", refusal);
        }
        self.troubles.note(&refusal);
        self.lists.note(&refusal);
        let is_of_joining = refusal.is_of_joining();
        if is_of_joining {
            self.note_unselected(&refusal.reason);
        }
        part.strike(refusal, is_named);
        // Who asked for it has another way then.
        if is_of_joining || part.is_hopeless(self.bulk_limit) {
            return self.give_up(part);
        }
        let pause = part.pause();
        self.aside.put(vec![part], pause);
    }

    /// Goes on after a settlement was refused too often.
    fn give_up(&mut self, mut part: Part) {
        let Some(strikes) = part.strikes.as_deref_mut() else { return };
        let (refusal, is_named, level) = (strikes.refusal.clone(), strikes.is_named, strikes.level);
        if let Some(number) = part.replaces {
            if let Some(listener) = part.answers {
                let _ = listener.send(Err(refusal));
            }
            return self.ask_for_less(number);
        }
        if is_named && refusal.command == "PUBLISH" {
            // Nobody hears of it, but it is stored: who waits for it looks too.
            part.commands.retain(|command| arguments(command).next() != Some(b"PUBLISH"));
            part.strikes = None;
            return self.aside.put(vec![part], Duration::ZERO);
        }
        if let Some(owner) = part.owner.clone() {
            let serial = part.serial;
            let limit = self.bulk_limit.filter(|_| !is_named);
            let number = self.aside.give_up(part);
            return self.receiver.refused(Hopeless { number, serial, owner, refusal, limit, level });
        }
        if let Some(listener) = part.answers {
            // Who listens knows what to do without it.
            let _ = listener.send(Err(refusal));
            return;
        }
        if part.acknowledges_itself && !part.moves {
            log::error!(code = refusal.code(), command = refusal.command.as_str(), key = refusal.key.as_deref().unwrap_or_default(); "What belongs to a message that goes elsewhere is dropped: {refusal}");
            let last = part.commands.broker.pop();
            part.commands = Vec::from_iter(last).into();
            part.moves = true;
            part.strikes = None;
            return self.aside.put(vec![part], Duration::ZERO);
        }
        let letters = self.letters(&part);
        if part.moves || part.serial.is_some() || !letters.is_empty() && level > 0 {
            return self.wait_on(part);
        }
        if letters.is_empty() {
            log::error!(code = refusal.code(), command = refusal.command.as_str(), key = refusal.key.as_deref().unwrap_or_default(); "A command that belongs to no task is dropped: {refusal}");
            return;
        }
        let number = self.aside.give_up(part);
        let stand_in = Part { commands: letters.into(), replaces: Some(number), ..Part::default() };
        self.aside.put(vec![stand_in], Duration::ZERO);
    }

    /// Goes on after what stood in for a settlement was refused: with what asks for less of the server, and with the
    /// settlement itself when nothing less is left.
    fn ask_for_less(&mut self, number: u64) {
        let Some(mut part) = self.aside.take(number) else { return };
        let Some(strikes) = part.strikes.as_deref_mut() else { return };
        strikes.level += 1;
        let levels = if strikes.since.elapsed() > PATIENCE { LEVELS + 1 } else { LEVELS };
        if strikes.level < levels && part.owner.is_some() {
            return self.give_up(part);
        }
        strikes.rounds += 1;
        strikes.level = 0;
        self.wait_on(part);
    }

    /// Lets a settlement wait that can be settled in no other way.
    fn wait_on(&mut self, mut part: Part) {
        if let Some(strikes) = part.strikes.as_deref_mut() {
            strikes.count = 0;
            strikes.rounds += 1;
        }
        let pause = part.pause();
        self.aside.put(vec![part], pause);
    }

    /// Ends a settlement for which another one was taken.
    pub(super) fn replaced(&mut self, number: u64) {
        let Some(part) = self.aside.take(number) else { return };
        if let (Some(listener), Some(strikes)) = (part.answers, part.strikes) {
            let _ = listener.send(Err(strikes.refusal));
        }
    }

    /// The dead letters of the messages that a settlement sends.
    fn letters(&self, part: &Part) -> Vec<Cmd> {
        let Some(dead) = &self.dead_letters else { return Vec::new() };
        let letter = |command: &Cmd| {
            let mut arguments = arguments(command);
            let (b"LPUSH", list, message) = (arguments.next()?, arguments.next()?, arguments.next()?) else {
                return None;
            };
            let list = String::from_utf8_lossy(list).into_owned();
            let letter = DeadLetter::new(DeadReason::Refused, list, &self.hostname, Vec::new(), message);
            Some(dead.push(&letter))
        };
        part.commands.broker.iter().filter_map(letter).flatten().collect()
    }
}
