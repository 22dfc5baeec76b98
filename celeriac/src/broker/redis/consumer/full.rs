//! What a consumer does while the server's memory is full.
//!
//! It goes on fetching and acknowledging, which frees memory. What needs memory (results, messages) is committed as far
//! as it is paid for by what this consumer has freed; the rest waits, recorded with its message if that is not
//! acknowledged, until there is memory again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::part::Part;
use super::{Consumer, Entry};
use crate::broker::Receiver;
use crate::broker::redis::transaction::Transaction;

/// How long the server is taken for full before the usual way is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// About what a message costs the server besides its bytes.
const OVERHEAD: usize = 64;
/// Most bytes that wait in this process before nothing more is fetched.
const MOST_POSTPONED: usize = 8 << 20;

/// Whether the server is full, and what waits for that to end.
#[derive(Default)]
pub(super) struct Full {
    since: Option<Instant>,
    until: Option<Instant>,
    /// Bytes that were freed and not taken since.
    credit: usize,
    postponed: VecDeque<Part>,
    postponed_bytes: usize,
}

impl Full {
    /// Whether the server is taken for full now.
    pub(super) fn is_on(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether so much waits that nothing more is to be fetched.
    pub(super) fn is_choked(&self) -> bool {
        self.postponed_bytes > MOST_POSTPONED
    }

    /// When what waits is tried again.
    pub(super) fn try_again_at(&self) -> Option<Instant> {
        self.until.filter(|_| !self.postponed.is_empty())
    }

    /// How much waits.
    pub(super) fn len(&self) -> usize {
        self.postponed.len()
    }

    /// The messages of what waits.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.postponed.iter().filter_map(|part| part.entry.as_ref())
    }

    /// Notes that the server has refused something for lack of memory.
    pub(super) fn begin(&mut self) {
        self.until = Some(Instant::now() + TRY_AGAIN);
        if self.since.is_none() {
            self.since = Some(Instant::now());
            log::error!(
                code = "OOM";
                "The broker's memory is full: what frees memory goes on, results and messages wait for memory\nhint: raise maxmemory, or let results expire sooner (result_expires)"
            );
        }
    }

    /// Notes that the server takes everything again.
    pub(super) fn end(&mut self) {
        if let Some(since) = self.since.take() {
            *self = Self { postponed: std::mem::take(&mut self.postponed), ..Self::default() };
            self.postponed_bytes = self.postponed.iter().map(Part::weight).sum();
            log::info!(seconds = since.elapsed().as_secs(); "The broker has memory again");
        }
    }

    /// Notes that a message left the server.
    pub(super) fn pay_in(&mut self, bytes: usize) {
        if self.since.is_some() {
            self.credit += bytes;
        }
    }

    /// Whether a part may be committed now; what it takes is paid.
    fn admits(&mut self, part: &Part) -> bool {
        if !self.is_on() {
            return true;
        }
        let balance = self.credit + part.entry.as_ref().map_or(0, |entry| entry.raw.len() + OVERHEAD);
        let cost = if part.moves { 0 } else { part.weight() };
        let admitted = cost <= balance;
        if admitted {
            self.credit = balance - cost;
        }
        admitted
    }

    fn postpone(&mut self, part: Part) {
        self.postponed_bytes += part.weight();
        self.postponed.push_back(part);
    }
}

impl<R: Receiver> Consumer<R> {
    /// Commits a part, or lets it wait for memory.
    pub(super) fn admit(&mut self, transaction: &mut Transaction, mut part: Part) {
        if self.full.admits(&part) {
            if let Some(Entry { slot: Some(slot), raw, .. }) = &part.entry {
                self.slots.settle(*slot, raw.clone());
            }
            return transaction.add(part);
        }
        if let Some(entry) = &mut part.entry
            && let Some(slot) = entry.slot.take()
        {
            transaction.record(entry, self.score());
            self.slots.settle(slot, entry.raw.clone());
        }
        self.full.postpone(part);
    }

    /// Commits what has waited for memory, as far as there is some.
    pub(super) fn resume(&mut self, transaction: &mut Transaction, mut most: usize) {
        while most > 0
            && let Some(part) = self.full.postponed.pop_front()
        {
            if !self.full.admits(&part) {
                return self.full.postponed.push_front(part);
            }
            self.full.postponed_bytes -= part.weight();
            transaction.add(part);
            most -= 1;
        }
    }

    /// Goes on after the server has refused the present transaction for lack of memory: what is not paid for is taken out.
    pub(super) fn divide(&mut self) {
        self.full.begin();
        let Some(mut transaction) = self.transaction.take() else { return };
        let score = self.score();
        for mut part in transaction.take_parts() {
            if self.full.admits(&part) {
                transaction.add(part);
                continue;
            }
            // The in-flight list in which it was is deleted with this transaction.
            if let Some(entry) = part.entry.as_mut().filter(|entry| entry.slot.is_some()) {
                transaction.record(entry, score);
                entry.slot = None;
            }
            self.full.postpone(part);
        }
        transaction.seal(transaction.number, &self.keys, &self.worker);
        self.transaction = (!transaction.is_empty()).then_some(transaction);
    }
}
