//! The messages that were given up.

use std::collections::HashMap;

use bytes::Bytes;

use super::{MemoryBroker, State, Write};
use crate::broker::{DeadLetter, DeadLetterCount, DeadReason, Fate};
use crate::message::{Message, envelope};

impl MemoryBroker {
    /// Returns whether messages that are given up are kept.
    pub(crate) fn keeps_dead_letters(&self) -> bool {
        self.dead_letters.is_some()
    }

    /// Returns the write that keeps a message of that queue among the dead letters.
    pub(crate) fn letter(&self, reason: DeadReason, message: &Message, queue: &str, hostname: &str) -> Write {
        let raw = envelope::encode(message);
        let letter = DeadLetter::new(reason, queue.to_owned(), hostname, Vec::new(), &raw);
        let broker = self.clone();
        Write::doing(move |state| broker.bury(state, letter.clone()))
    }

    /// Keeps a message that is given up, and drops the oldest beyond the bound.
    pub(super) fn bury(&self, state: &mut State, mut letter: DeadLetter) {
        let Some(most) = self.dead_letters else { return };
        letter.date = state.now.to_rfc3339();
        state.dead_letters.push(letter);
        let most = usize::try_from(most).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
        let beyond = state.dead_letters.len().saturating_sub(most);
        state.dead_letters.drain(..beyond);
    }

    /// Returns all of them, the newest first.
    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        self.server.read(|state| state.dead_letters.iter().rev().cloned().collect())
    }

    /// Counts them; `None` when none are kept.
    pub(crate) fn dead_letter_count(&self) -> Option<DeadLetterCount> {
        self.dead_letters?;
        let count = self.server.read(|state| state.dead_letters.len() as u64);
        Some(DeadLetterCount { count, ..DeadLetterCount::default() })
    }

    /// Decides on each of them, the oldest first, and returns how many do not stay.
    pub(crate) fn sift_dead_letters(
        &self,
        mut decide: impl FnMut(&DeadLetter) -> Fate,
        mut progress: impl FnMut(u64),
    ) -> u64 {
        // Decided without the lock: who decides may look at the server.
        let decided = |letter: DeadLetter| (letter.id.clone(), decide(&letter));
        let fates: HashMap<String, Fate> = self.dead_letters().into_iter().rev().map(decided).collect();
        let taken = self.server.change(|state| {
            let mut taken = 0;
            for letter in std::mem::take(&mut state.dead_letters) {
                match fates.get(&letter.id) {
                    Some(Fate::Requeue) if letter.too_large.is_none() => state.requeue_raw(&letter),
                    Some(Fate::Drop) => {}
                    _ => {
                        state.dead_letters.push(letter);
                        continue;
                    }
                }
                taken += 1;
            }
            taken
        });
        progress(fates.len() as u64);
        taken
    }
}

impl State {
    /// Puts the message of a dead letter back into its queue, as it was delivered.
    fn requeue_raw(&mut self, letter: &DeadLetter) {
        let raw = letter.message();
        let priority = envelope::decode(&raw).ok().and_then(|message| message.properties.priority);
        let rank = self.rank(priority.unwrap_or(0));
        self.queues.entry(letter.list.clone()).or_default().push(rank, Bytes::from(raw));
    }
}
