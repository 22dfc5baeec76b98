//! From settlements to one transaction, and from its replies to those who wait for them.

use std::time::Instant;

use redis::{Cmd, Pipeline, Value, cmd};

use super::{Consumer, Disposition, Entry, Receiver, Settlement};
use crate::broker::redis::DeadLetter;
use crate::broker::redis::exchange::is_full;
use crate::broker::redis::transaction::{Part, Transaction};
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
        self.resume(&mut transaction, COMMIT_BATCH);
        self.add_acknowledged(&mut transaction);
        let mut next = first;
        for _ in 0..COMMIT_BATCH {
            let Some(settlement) = next.take().or_else(|| self.settlements.try_recv().ok()) else { break };
            self.add_settlement(&mut transaction, settlement);
        }
        self.add_records(&mut transaction);
        for slot in self.slots.take_finished() {
            transaction.delete.push(self.keys.inflight(&self.worker, slot));
            transaction.slots.push(slot);
        }
        // A message that was acknowledged before, and results in another database, leave nothing to do here.
        if !transaction.is_empty() {
            self.transaction_number += 1;
            transaction.seal(self.transaction_number, &self.keys, &self.worker);
            self.transaction = Some(transaction);
            fail_point!("consume.gathered");
        }
    }

    fn add_settlement(&mut self, transaction: &mut Transaction, settlement: Settlement) {
        let Settlement { serial, disposition, commands, replies } = settlement;
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
        let mut part = Part { entry, commands, moves: false, replies };
        let elsewhere =
            part.entry.as_ref().map(|entry| self.elsewhere(disposition, entry)).unwrap_or_default();
        if !elsewhere.is_empty() {
            part.moves = part.commands.is_empty();
            part.commands.extend(elsewhere);
        }
        self.admit(transaction, part);
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
        let Some(transaction) = self.transaction.take() else { return Ok(()) };
        let whole = answers.len() > 1;
        match transaction.outcome(answers) {
            Ok(replies) => {
                fail_point!("consume.committed");
                if whole {
                    self.full.end();
                }
                self.confirm(transaction, Some(replies));
                Ok(())
            }
            Err(reason) => {
                self.transaction = Some(transaction);
                self.keep_transaction(written);
                if is_full(&reason) {
                    self.divide();
                    return Ok(());
                }
                Err(format!("the server refused a transaction: {reason}"))
            }
        }
    }

    /// Ends a transaction that was carried out; its replies may be lost.
    pub(super) fn confirm(&mut self, transaction: Transaction, replies: Option<Vec<Value>>) {
        self.slots.free(&transaction.slots);
        transaction.answer(replies);
    }
}

fn push(name: &str, list: &str, message: Vec<u8>) -> Cmd {
    let mut push = cmd(name);
    push.arg(list).arg(message);
    push
}
