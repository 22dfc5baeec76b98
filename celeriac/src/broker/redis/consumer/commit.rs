//! From settlements to one transaction, and from its replies to those who wait for them.

use std::time::Instant;

use redis::{Pipeline, Value};

use super::{Consumer, Disposition, Receiver, Settlement};
use crate::broker::redis::dead_letters::DeadLetter;
use crate::broker::redis::transaction::Transaction;

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
        }
    }

    fn add_settlement(&mut self, transaction: &mut Transaction, settlement: Settlement) {
        let Settlement { serial, disposition, commands, replies } = settlement;
        if disposition == Disposition::Hold {
            if let Some(serial) = serial {
                self.held.stays(serial);
            }
        } else if let Some(entry) = serial.and_then(|serial| self.held.remove(serial)) {
            match disposition {
                Disposition::Requeue => {
                    transaction.push("LPUSH", entry.home(&self.keys), entry.redelivered());
                }
                Disposition::Restore => {
                    transaction.push("RPUSH", entry.home(&self.keys), entry.redelivered());
                }
                Disposition::Dead(reason, deliveries) => {
                    if let Some(list) = &self.dead_letters {
                        let home = entry.home(&self.keys);
                        let letter = DeadLetter::new(reason, home, &self.hostname, deliveries, &entry.raw);
                        transaction.push("LPUSH", list.clone(), letter.encode());
                    }
                }
                Disposition::Ack | Disposition::Hold => {}
            }
            match entry.slot {
                Some(slot) => self.slots.settle(slot, entry.raw),
                None => transaction.acked.push(entry.tag().to_owned()),
            }
        }
        transaction.add(commands, replies);
    }

    /// Records what has been in flight for long, and more of it when the in-flight lists run out.
    fn add_records(&mut self, transaction: &mut Transaction) {
        let now = Instant::now();
        let score = self.score();
        while let Some(entry) = self.held.next_to_record(now, self.slots.is_scarce()) {
            transaction.record(entry.tag(), score, entry.unacked_value());
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
    pub(super) fn finish_transaction(&mut self, answers: Vec<Value>) -> Result<(), String> {
        let Some(transaction) = self.transaction.take() else { return Ok(()) };
        match transaction.outcome(answers) {
            Ok(replies) => {
                self.confirm(transaction, Some(replies));
                Ok(())
            }
            Err(reason) => {
                self.transaction = Some(transaction);
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
