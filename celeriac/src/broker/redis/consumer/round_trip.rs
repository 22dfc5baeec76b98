//! One round trip: everything that is asked of the server now, and what it replies.

use redis::{Pipeline, Value};

use super::sources::{Fetch, Look};
use super::{Arrival, Consumer, FETCH_BATCH, FETCH_BYTES, bindings};
use crate::broker::redis::transaction::Transaction;
use crate::broker::refusals::Work;
use crate::broker::{Receiver, Room};
use crate::failpoints::fail_point;

/// The questions of one round trip, in the order of the replies.
pub(super) struct RoundTrip {
    pub(super) commands: Pipeline,
    /// The number of replies that belong to the transaction.
    pub(super) committing: Option<usize>,
    /// From which set messages are asked for that are due.
    pub(super) claim: Option<usize>,
    pub(super) fetch: Option<Fetch>,
    pub(super) looking: Option<Look>,
    /// Of which sets it is asked when something is due.
    pub(super) reading: Vec<usize>,
    /// Of which exchanges the bindings are written.
    pub(super) binding: Vec<usize>,
    pub(super) renewing: bool,
}

impl<R: Receiver> Consumer<R> {
    /// Everything that is to be asked of the server now.
    pub(super) fn plan(&mut self, fetching: bool) -> RoundTrip {
        let mut commands = Pipeline::new();
        let full = self.full.is_on();
        let scratch = self.keys.scratch(&self.worker);
        let selection = self.results.selection();
        let committing = self.transaction.as_mut().map(|transaction| match full {
            false => transaction.write(selection, &mut commands),
            true => transaction.write_exchange(selection, &scratch, &mut commands),
        });
        let wrote = self.transaction.as_ref().is_some_and(Transaction::wrote_for_broker);
        let (mut claim, mut fetch, mut looking) = (None, None, None);
        let (mut reading, mut binding) = (Vec::new(), Vec::new());
        self.has_room = false;
        if fetching {
            if self.sources.set_queues(self.handle.queues(), &self.keys) {
                self.parked.set_queues(self.sources.queues(), &self.keys);
                self.forgive_other_queues();
            }
            // The server does not announce to this worker what it pushes itself.
            let pushing = match wrote {
                true if full => {
                    self.sources.note_changes(None);
                    true
                }
                true => self.sources.note_pushes(commands.cmd_iter()),
                false => false,
            };
            let is_held_back = self.full.is_choked() || self.aside.is_choked() || !self.is_leased;
            let mut room = if is_held_back { Room::default() } else { self.room() };
            self.has_room = !room.is_empty();
            let due = if self.sources.is_waiting() { room.half() } else { room };
            claim = self.plan_claim(due.count(self.sources.expected_size()), &mut commands);
            room = if claim.is_some() { room.without(due) } else { room };
            fetch = self.plan_fetch(room, &mut commands);
            looking = self.sources.look(pushing || fetch.is_some(), !room.is_empty(), &mut commands);
            reading = self.parked.read(&mut commands);
            binding = self.plan_bindings(&mut commands);
        }
        let renewing = self.plan_renewal(&mut commands);
        RoundTrip { commands, committing, claim, fetch, looking, reading, binding, renewing }
    }

    pub(super) fn plan_fetch(&mut self, room: Room, commands: &mut Pipeline) -> Option<Fetch> {
        if room.is_empty() || !self.sources.is_waiting() {
            return None;
        }
        let slot = self.slots.open()?;
        let full = self.full.is_on();
        let lists = self.sources.fetch(room, &self.keys.inflight(&self.worker, slot), full, commands);
        Some(Fetch { slot, lists })
    }

    /// Takes in what the server replied.
    pub(super) fn absorb(&mut self, trip: RoundTrip, found: Vec<Value>) -> Result<(), String> {
        let mut found = found.into_iter();
        if let Some(count) = trip.committing {
            let answers: Vec<Value> = found.by_ref().take(count).collect();
            self.finish_transaction(answers, &trip.commands)?;
        }
        let mut refused = None;
        if let Some(set) = trip.claim {
            let reply = found.next();
            refused = self.take_claimed(set, reply);
        }
        if let Some(Fetch { slot, lists }) = trip.fetch {
            fail_point!("fetch.moved");
            for list in lists {
                match found.next() {
                    Some(Value::BulkString(raw)) => {
                        self.slots.add(slot);
                        let queue = self.sources.note_moved(list, raw.len());
                        let raw = raw.into();
                        self.arrived.push(Arrival { raw, queue, slot: Some(slot) });
                    }
                    Some(Value::Nil) => self.sources.note_empty(list),
                    Some(reply) => {
                        refused = self.note_unfetched(list, &reply).or(refused);
                        continue;
                    }
                    None => {}
                }
                if let Some(queue) = self.sources.note_taken(list) {
                    self.refusals.end(Work::Fetch, &queue);
                }
            }
        }
        if let Some(look) = trip.looking {
            self.sources.note_look(look, &mut found);
        }
        for (set, reply) in trip.reading.into_iter().zip(found.by_ref()) {
            self.parked.note_next(set, &reply, self.clock.now());
        }
        for exchange in trip.binding {
            let replies: Vec<Value> = found.by_ref().take(bindings::REPLIES).collect();
            refused = self.take_bindings(exchange, &replies).or(refused);
        }
        if trip.renewing
            && let Some(time) = found.next()
        {
            self.clock.set(&time);
            refused = self.note_renewed(found).or(refused);
        }
        match refused {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    /// Returns how much more is wanted now.
    fn room(&self) -> Room {
        let bytes = self.arrived.iter().map(|arrival| arrival.raw.len()).sum();
        let arrived = Room::new(self.arrived.len(), bytes);
        self.receiver.capacity().without(arrived).at_most(Room::new(FETCH_BATCH, FETCH_BYTES))
    }
}
