//! Wrong API keys and admin tokens, counted by address, so that nobody can try thousands of them.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Wrong keys that an address may send within [`WINDOW`].
const LIMIT: u32 = 30;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses and keys that are remembered; the counts of more are dropped together with the oldest windows.
const MOST: usize = 10_000;

/// The wrong keys of the last minute, and the right ones, which are let through from everywhere.
#[derive(Default)]
pub(crate) struct Guesses {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    wrong: HashMap<IpAddr, (Instant, u32)>,
    /// Hashes of keys that were right.
    right: HashSet<String>,
}

impl Guesses {
    /// Returns the seconds for which an address must wait before it may try a key that is not known to be right.
    pub(crate) fn wait(&self, address: Option<IpAddr>, key_hash: &str) -> Option<u64> {
        let known = self.known();
        let &(since, count) = known.wrong.get(&address?)?;
        let left = WINDOW.checked_sub(since.elapsed())?;
        (count >= LIMIT && !known.right.contains(key_hash)).then(|| left.as_secs() + 1)
    }

    /// Counts a wrong key.
    pub(crate) fn wrong(&self, address: Option<IpAddr>, key_hash: &str) {
        let mut known = self.known();
        known.right.remove(key_hash);
        let Some(address) = address else { return };
        if known.wrong.len() >= MOST {
            known.wrong.retain(|_, (since, _)| since.elapsed() < WINDOW);
        }
        if known.wrong.len() >= MOST && !known.wrong.contains_key(&address) {
            return;
        }
        let entry = known.wrong.entry(address).or_insert_with(|| (Instant::now(), 0));
        if entry.0.elapsed() >= WINDOW {
            *entry = (Instant::now(), 0);
        }
        entry.1 += 1;
    }

    /// Notes that a key was right.
    pub(crate) fn right(&self, key_hash: &str) {
        let mut known = self.known();
        if known.right.len() >= MOST {
            known.right.clear();
        }
        if !known.right.contains(key_hash) {
            known.right.insert(key_hash.to_owned());
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
