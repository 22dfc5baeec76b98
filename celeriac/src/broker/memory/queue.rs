//! A queue: what waits in it, what is put aside until its eta, and what channels hold of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::state::State;
use crate::message::envelope;

/// The messages of one queue.
#[derive(Default)]
pub(crate) struct Queue {
    /// By the place of their priority; the front is delivered next.
    waiting: BTreeMap<u8, VecDeque<Bytes>>,
    /// By the time at which they are due.
    parked: BTreeMap<(DateTime<Utc>, u64), (u8, Bytes)>,
    parked_so_far: u64,
}

/// A message that a channel holds.
pub(crate) struct Held {
    pub(crate) queue: String,
    pub(crate) raw: Bytes,
    /// The place of its priority.
    pub(crate) rank: u8,
    /// Whether it was put aside before and is due now.
    pub(crate) was_parked: bool,
}

impl Held {
    fn redelivered(&self) -> Bytes {
        envelope::mark_redelivered(&self.raw).map_or_else(|_| self.raw.clone(), Bytes::from)
    }
}

impl Queue {
    /// Adds a message behind those of its priority.
    pub(crate) fn push(&mut self, rank: u8, raw: Bytes) {
        self.waiting.entry(rank).or_default().push_back(raw);
    }

    /// Returns the place of the priority that is served next.
    fn first_rank(&self) -> Option<u8> {
        self.waiting.iter().find(|(_, list)| !list.is_empty()).map(|(rank, _)| *rank)
    }

    /// Returns how many messages wait.
    pub(crate) fn len(&self) -> u64 {
        self.waiting.values().map(|list| list.len() as u64).sum()
    }

    /// Whether nothing waits and nothing is put aside.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0 && self.parked.is_empty()
    }

    /// Removes what waits and returns how many messages that were.
    pub(crate) fn purge(&mut self) -> u64 {
        let count = self.len();
        self.waiting.clear();
        count
    }

    /// Returns when the first of those is due that are put aside.
    pub(crate) fn next_due(&self) -> Option<DateTime<Utc>> {
        self.parked.first_key_value().map(|((due, _), _)| *due)
    }

    fn park(&mut self, due: DateTime<Utc>, held: Held) {
        self.parked_so_far += 1;
        self.parked.insert((due, self.parked_so_far), (held.rank, held.raw));
    }

    fn take_due(&mut self, now: DateTime<Utc>) -> Option<(u8, Bytes)> {
        let first = self.parked.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

impl State {
    /// Takes the message that is delivered next from one of these queues: what is due first, then by priority, and in
    /// turn from queues of equal priority.
    pub(crate) fn take(&mut self, queues: &[impl AsRef<str>], turn: usize) -> Option<Held> {
        let now = self.now;
        for name in queues {
            let due = self.queues.get_mut(name.as_ref()).and_then(|queue| queue.take_due(now));
            if let Some((rank, raw)) = due {
                return Some(Held { queue: name.as_ref().to_owned(), raw, rank, was_parked: true });
            }
        }
        let count = queues.len().max(1);
        let in_turn = (0..queues.len()).map(|place| queues[(place + turn) % count].as_ref());
        let ranked = in_turn.filter_map(|name| Some((self.queues.get(name)?.first_rank()?, name)));
        let (rank, name) = ranked.min_by_key(|(rank, _)| *rank)?;
        let raw = self.queues.get_mut(name)?.waiting.get_mut(&rank)?.pop_front()?;
        Some(Held { queue: name.to_owned(), raw, rank, was_parked: false })
    }

    /// Lets a channel hold a message under that number.
    pub(crate) fn hold(&mut self, channel: u64, serial: u64, held: Held) {
        self.channels.entry(channel).or_default().insert(serial, held);
    }

    /// Takes back what a channel holds under that number.
    pub(crate) fn release(&mut self, channel: u64, serial: u64) -> Option<Held> {
        self.channels.get_mut(&channel)?.remove(&serial)
    }

    /// Puts a message back to be delivered next.
    pub(crate) fn restore(&mut self, held: Held) {
        let raw = held.redelivered();
        let queue = self.queues.entry(held.queue).or_default();
        queue.waiting.entry(held.rank).or_default().push_front(raw);
    }

    /// Puts a message back behind everything that waits.
    pub(crate) fn requeue(&mut self, held: Held) {
        let raw = held.redelivered();
        self.queues.entry(held.queue).or_default().push(held.rank, raw);
    }

    /// Puts a message aside until it is due.
    pub(crate) fn park(&mut self, held: Held, due: DateTime<Utc>) {
        self.queues.entry(held.queue.clone()).or_default().park(due, held);
    }

    /// Returns when the first message of these queues is due that is put aside.
    pub(crate) fn next_due(&self, queues: &[impl AsRef<str>]) -> Option<DateTime<Utc>> {
        queues.iter().filter_map(|name| self.queues.get(name.as_ref())?.next_due()).min()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn state(messages: &[(&str, u8, &'static str)]) -> State {
        let mut state = State::new(Utc::now(), false);
        for (queue, rank, text) in messages {
            let raw = Bytes::from_static(text.as_bytes());
            state.queues.entry((*queue).to_owned()).or_default().push(*rank, raw);
        }
        state
    }

    fn taken(state: &mut State, queues: &[&str]) -> Vec<Bytes> {
        let mut turn = 0;
        std::iter::from_fn(|| {
            turn += 1;
            state.take(queues, turn - 1).map(|held| held.raw)
        })
        .collect()
    }

    #[test]
    fn messages_come_by_priority_then_in_turn_from_the_queues_then_in_their_order() {
        let mut state = state(&[("a", 0, "1"), ("a", 0, "2"), ("b", 0, "3"), ("b", 0, "4"), ("c", 5, "5")]);
        assert_eq!(taken(&mut state, &["a", "b", "c"]), ["1", "3", "2", "4", "5"]);
    }

    #[test]
    fn a_closed_channel_gives_back_what_it_held_in_the_old_order() {
        let mut state = state(&[("a", 0, "1"), ("a", 0, "2"), ("a", 0, "3")]);
        let channel = state.open_channel();
        for serial in 0..2 {
            let held = state.take(&["a"], 0).unwrap();
            state.hold(channel, serial, held);
        }
        assert!(!state.is_quiet());
        state.close_channel(channel);
        assert!(state.release(channel, 0).is_none(), "it can be settled no more");
        assert_eq!(taken(&mut state, &["a"]), ["1", "2", "3"]);
        assert!(state.is_quiet());
    }

    #[test]
    fn a_message_that_is_put_aside_comes_when_it_is_due() {
        let mut state = state(&[("a", 0, "1"), ("a", 0, "2")]);
        let due = state.now + TimeDelta::hours(1);
        let held = state.take(&["a"], 0).unwrap();
        state.park(held, due);
        assert_eq!(taken(&mut state, &["a"]), ["2"]);
        assert_eq!(state.next_due(&["a"]), Some(due));
        assert!(!state.is_quiet());
        state.now = due;
        let held = state.take(&["a"], 0).unwrap();
        assert!(held.was_parked);
        assert_eq!(held.raw, "1");
    }
}
