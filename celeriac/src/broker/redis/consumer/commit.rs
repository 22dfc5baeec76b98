//! From settlements to one transaction, and from its replies to those who wait for them.

use std::time::Instant;

use redis::{Cmd, Pipeline, Value, cmd};

use super::part::Part;
use super::{Consumer, Entry};
use crate::broker::redis::exchange::{guarded, is_full};
use crate::broker::redis::transaction::{Done, Refused, Transaction, acknowledge};
use crate::broker::{DeadLetter, Disposition, Receiver, Settlement};
use crate::failpoints::fail_point;

/// Most settlements that one round trip commits.
const COMMIT_BATCH: usize = 1024;

impl<R: Receiver> Consumer<R> {
    /// Makes a transaction of everything that is to be committed now, beginning with a settlement that ended a wait,
    /// unless one is under way.
    pub(super) fn gather(&mut self, first: Option<Settlement>) {
        if self.transaction.is_some() {
            return;
        }
        let mut transaction = Transaction::default();
        let apart = if first.is_none() { self.aside.take_due() } else { Vec::new() };
        if apart.is_empty() {
            self.gather_all(&mut transaction, first);
        } else {
            self.try_again(&mut transaction, apart);
        }
        if self.is_apart() {
            self.part_ways(&mut transaction);
        }
        // A message that was acknowledged before, and results in another database, leave nothing to do here.
        if !transaction.is_empty() {
            self.transaction_number += 1;
            transaction.seal(self.transaction_number, &self.keys, &self.worker);
            self.transaction = Some(transaction);
            fail_point!("consume.gathered");
        }
    }

    fn gather_all(&mut self, transaction: &mut Transaction, first: Option<Settlement>) {
        self.resume(transaction, COMMIT_BATCH);
        self.add_acknowledged(transaction);
        let mut next = first;
        for _ in 0..COMMIT_BATCH {
            let Some(settlement) = next.take().or_else(|| self.settlements.try_recv().ok()) else { break };
            self.add_settlement(transaction, settlement);
        }
        self.add_records(transaction);
        for slot in self.slots.take_finished() {
            transaction.delete.push(self.keys.inflight(&self.worker, slot));
            transaction.slots.push(slot);
        }
    }

    fn add_settlement(&mut self, transaction: &mut Transaction, settlement: Settlement) {
        let Settlement { serial, disposition, batch, answers, owner, replaces } = settlement;
        if disposition == Disposition::Hold {
            if let Some(serial) = serial {
                self.held.stays(serial);
            }
            return;
        }
        let mut entry = serial.and_then(|serial| self.held.remove(serial));
        if let Disposition::Park(eta) = disposition
            && let Some(entry) = entry.take()
        {
            self.park(transaction, entry, eta);
        }
        let commands = batch.into_commands();
        let mut part = Part { serial, entry, commands, answers, owner, replaces, ..Part::default() };
        if !part.commands.results.is_empty() && !matches!(disposition, Disposition::Ack) {
            part.disposition = Some(Box::new(disposition.clone()));
        }
        let elsewhere =
            part.entry.as_ref().map(|entry| self.elsewhere(disposition, entry)).unwrap_or_default();
        if let Some((elsewhere, then)) = elsewhere.split_first() {
            part.moves = part.commands.is_empty();
            self.move_elsewhere(transaction, &mut part, elsewhere, then);
        }
        self.admit(transaction, part);
    }

    /// Adds the command that puts a message elsewhere and, only if that succeeds, acknowledges it: the message is
    /// recorded before, so that it stays where another worker finds it.
    fn move_elsewhere(
        &mut self,
        transaction: &mut Transaction,
        part: &mut Part,
        elsewhere: &Cmd,
        then: &[Cmd],
    ) {
        let score = self.score();
        let Some(entry) = &mut part.entry else { return };
        if let Some(slot) = entry.slot.take() {
            transaction.record(entry, score);
            self.slots.settle(slot, entry.raw.clone());
        }
        part.acknowledges_itself = true;
        let acknowledge = acknowledge(&self.keys, &[entry.tag()]);
        part.commands.broker.push(guarded([elsewhere].into_iter().chain(&acknowledge).chain(then)));
    }

    /// The commands that put a message where it goes.
    fn elsewhere(&self, disposition: Disposition, entry: &Entry) -> Vec<Cmd> {
        let home = entry.home(&self.keys);
        match disposition {
            Disposition::Ack | Disposition::Hold | Disposition::Park(_) => Vec::new(),
            Disposition::Requeue => vec![push("LPUSH", &home, entry.redelivered())],
            Disposition::Restore => vec![push("RPUSH", &home, entry.redelivered())],
            Disposition::Dead(reason, history) => self.dead_letters.as_ref().map_or_else(Vec::new, |list| {
                list.push(&DeadLetter::new(reason, home, &self.hostname, history, &entry.raw)).into()
            }),
        }
    }

    /// Records what has been in flight for long, and more of it when the in-flight lists run out.
    fn add_records(&mut self, transaction: &mut Transaction) {
        let now = Instant::now();
        let score = self.score();
        for serial in self.unrecorded.drain(..) {
            if let Some(entry) = self.held.get(serial) {
                transaction.record(entry, score);
            }
        }
        while let Some(entry) = self.held.next_to_record(now, self.slots.is_scarce()) {
            transaction.record(entry, score);
            if let Some(slot) = entry.slot.take() {
                self.slots.settle(slot, entry.raw.clone());
            }
        }
    }

    /// Keeps the transaction that was written into a pipeline and not confirmed.
    pub(super) fn keep_transaction(&mut self, written: &Pipeline) {
        if let Some(transaction) = &mut self.transaction {
            transaction.take_back(written);
        }
    }

    /// Reads the replies of the transaction in flight.
    pub(super) fn finish_transaction(
        &mut self,
        answers: Vec<Value>,
        written: &Pipeline,
    ) -> Result<(), String> {
        let Some(mut transaction) = self.transaction.take() else { return Ok(()) };
        let whole = answers.len() > 1;
        match transaction.outcome(answers) {
            Ok(Done { replies, misled, stranded }) => {
                fail_point!("consume.committed");
                if whole {
                    self.full.end();
                }
                let mut faults = transaction.faults(&replies);
                if let Some(reason) = &misled {
                    transaction.mislead(&mut faults, reason);
                }
                let unselected = misled.or(stranded);
                if let Some(reason) = &unselected {
                    self.note_unselected(reason);
                }
                if faults.is_empty() {
                    self.confirm(transaction, Some(replies));
                } else {
                    transaction.take_back(written);
                    self.confirm_in_part(transaction, replies, faults);
                }
                // It is in the wrong database perhaps.
                unselected.map_or(Ok(()), Err)
            }
            Err(refused) => {
                let was_exchange = transaction.is_exchange();
                self.transaction = Some(transaction);
                self.keep_transaction(written);
                match refused {
                    refused if is_full(refused.reason()) && !was_exchange => self.divide(),
                    Refused::Selecting(reason) => {
                        self.note_unselected(&reason);
                        self.part_present_ways();
                    }
                    Refused::For(faults) => self.exclude(faults),
                    Refused::Whole(reason) => return self.look_for_culprit(&reason, false),
                }
                Ok(())
            }
        }
    }

    /// Ends a transaction that was carried out; its replies may be lost.
    pub(super) fn confirm(&mut self, transaction: Transaction, replies: Option<Vec<Value>>) {
        self.slots.free(&transaction.slots);
        let mut replaced = Vec::new();
        transaction.answer(replies, |number| replaced.push(number));
        replaced.into_iter().for_each(|number| self.replaced(number));
    }
}

fn push(name: &str, list: &str, message: Vec<u8>) -> Cmd {
    let mut push = cmd(name);
    push.arg(list).arg(message);
    push
}
