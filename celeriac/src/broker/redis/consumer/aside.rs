//! Settlements that are tried apart from the others: refused ones, and those among which a refused one is looked for.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::part::Part;

/// Most bytes that wait in this process before nothing more is fetched.
const MOST: usize = 8 << 20;
/// About how many bytes a settlement takes besides those of its commands.
const OVERHEAD: usize = 512;
/// Most settlements that are tried together.
const TOGETHER: usize = 256;

/// What waits to be tried again, and what waits for something that stands in for it.
#[derive(Default)]
pub(super) struct Aside {
    groups: BTreeMap<(Instant, u64), Vec<Part>>,
    /// Given up, until what stands in for them is taken.
    hopeless: HashMap<u64, Part>,
    next: u64,
    bytes: usize,
    /// Whether these are due next, and the others after them.
    is_next: bool,
}

impl Aside {
    /// Whether so much waits that nothing more is to be fetched.
    pub(super) fn is_choked(&self) -> bool {
        self.bytes > MOST
    }

    /// How many settlements wait for somebody to change something.
    pub(super) fn len(&self) -> usize {
        self.groups.values().map(Vec::len).sum::<usize>() + self.hopeless.len()
    }

    /// Whether all that waits are messages that are on the server and could not be put elsewhere.
    pub(super) fn is_kept_by_server(&self) -> bool {
        self.hopeless.is_empty() && self.groups.values().flatten().all(|part| part.moves)
    }

    /// Adds settlements that are tried together after that time.
    pub(super) fn put(&mut self, parts: Vec<Part>, pause: Duration) {
        self.bytes += parts.iter().map(bytes).sum::<usize>();
        self.next += 1;
        self.groups.insert((Instant::now() + pause, self.next), parts);
    }

    /// When the next ones are to be tried.
    pub(super) fn due(&self) -> Option<Instant> {
        self.groups.first_key_value().map(|((due, _), _)| *due)
    }

    /// The settlements that are to be tried now; at every other call, so that all others go on.
    pub(super) fn take_due(&mut self) -> Vec<Part> {
        if self.groups.is_empty() {
            return Vec::new();
        }
        self.is_next = !self.is_next;
        let now = Instant::now();
        let mut taken = Vec::new();
        while self.is_next
            && let Some(first) = self.groups.first_entry()
            && first.key().0 <= now
        {
            // One that the server names can be tried together with others, and the rest only alone.
            let is_named = |part: &Part| part.strikes.as_ref().is_some_and(|strikes| strikes.is_named);
            let is_lone = !first.get().iter().all(is_named);
            if !taken.is_empty() && (is_lone || taken.len() >= TOGETHER) {
                break;
            }
            taken.extend(first.remove());
            if is_lone {
                break;
            }
        }
        self.bytes = self.bytes.saturating_sub(taken.iter().map(bytes).sum());
        taken
    }

    /// Keeps a settlement that is given up; returns its number.
    pub(super) fn give_up(&mut self, part: Part) -> u64 {
        self.bytes += bytes(&part);
        self.next += 1;
        self.hopeless.insert(self.next, part);
        self.next
    }

    /// Takes a settlement out that was given up.
    pub(super) fn take(&mut self, number: u64) -> Option<Part> {
        let part = self.hopeless.remove(&number)?;
        self.bytes = self.bytes.saturating_sub(bytes(&part));
        Some(part)
    }
}

fn bytes(part: &Part) -> usize {
    part.weight() + OVERHEAD
}
