//! The counters and claims of chords, with the rules of the scripts in `backend/redis/chord_scripts.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::results::until;
use crate::backend::{Freshness, PartAnswer};

/// How long a claim lasts while its owner publishes the body, in seconds.
const PUBLISH_SECONDS: u64 = 21;
/// How long the parts of a chord that has no size are kept if results do not expire, in seconds.
const STRAY_SECONDS: u64 = 86_400;

/// How long something of chords is kept, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Counters and parts; 0 for ever.
    pub(super) expires: u64,
    /// A claim.
    pub(super) claim: u64,
    /// How long nothing may be heard of a chord without a size until that counts as gone.
    pub(super) size: u64,
    /// How long it is remembered that a chord is done.
    pub(super) done: u64,
}

/// The chords of one server.
#[derive(Default)]
pub(super) struct Chords {
    chords: HashMap<String, Chord>,
    /// Those that somebody has to go on with.
    registered: BTreeMap<String, Registered>,
}

#[derive(Default)]
struct Chord {
    claim: Option<(Owner, Option<DateTime<Utc>>)>,
    counters: Counters,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    /// A worker goes on with it.
    Token(String),
    /// Its body was sent, or it failed.
    Done,
    /// It failed since nobody knew its size.
    Gone,
}

/// What expires together.
#[derive(Default)]
struct Counters {
    size: Option<u64>,
    more: i64,
    members: HashSet<(String, Option<i64>)>,
    /// In the order of the header, or as they came.
    parts: Vec<(Option<i64>, Vec<u8>)>,
    /// What the first part left that knows how to go on.
    first: Vec<u8>,
    until: Option<DateTime<Utc>>,
}

struct Registered {
    look_at: DateTime<Utc>,
    completing: Vec<u8>,
    /// How many parts there were when it was looked at last, while its size is unknown.
    seen: Option<usize>,
}

/// A part that returns.
pub(super) struct Part<'a> {
    pub(super) task_id: &'a str,
    pub(super) index: Option<i64>,
    pub(super) encoded: &'a [u8],
    /// Whether parts are kept in the order of the header.
    pub(super) ordered: bool,
    /// Claims the chord if this part completes it.
    pub(super) token: &'a str,
    /// What another worker needs to go on in place of this one; empty in a part that does not know.
    pub(super) completing: &'a [u8],
    /// Whether it may be a late copy.
    pub(super) freshness: Freshness,
}

impl Chord {
    fn owner(&self, now: DateTime<Utc>) -> Option<&Owner> {
        let (owner, until) = self.claim.as_ref()?;
        until.is_none_or(|until| now < until).then_some(owner)
    }

    fn is_complete(&self) -> bool {
        let size = self.counters.size.and_then(|size| i64::try_from(size).ok());
        size.is_some_and(|size| self.counters.parts.len() as i64 == size + self.counters.more)
    }
}

impl Chords {
    /// The chord of that id, without counters that have expired.
    fn chord(&mut self, now: DateTime<Utc>, group_id: &str) -> &mut Chord {
        let chord = self.chords.entry(group_id.to_owned()).or_default();
        if chord.counters.until.is_some_and(|until| until <= now) {
            chord.counters = Counters::default();
        }
        chord
    }

    fn register(&mut self, group_id: &str, look_at: DateTime<Utc>, completing: &[u8], seen: Option<usize>) {
        let registered = Registered { look_at, completing: completing.to_vec(), seen };
        self.registered.insert(group_id.to_owned(), registered);
    }

    pub(super) fn unsent(&self) -> u64 {
        self.registered.len() as u64
    }

    /// Sets the size of a chord that is sent, and lets one that was applied before run again.
    pub(super) fn set_size(&mut self, now: DateTime<Utc>, group_id: &str, size: u64, times: Times) {
        let chord = self.chord(now, group_id);
        chord.claim = None;
        chord.counters.size = chord.counters.size.max(Some(size));
        chord.counters.until = until(now, times.expires);
    }

    /// Adds parts to a running chord.
    pub(super) fn grow(&mut self, now: DateTime<Utc>, group_id: &str, by: i64) {
        self.chord(now, group_id).counters.more += by;
    }

    /// Adds a part once, counts, and lets one caller claim the complete chord.
    pub(super) fn add_part(
        &mut self,
        now: DateTime<Utc>,
        group_id: &str,
        part: &Part<'_>,
        times: Times,
    ) -> PartAnswer {
        let is_registered = self.registered.contains_key(group_id);
        let chord = self.chord(now, group_id);
        if chord.owner(now) == Some(&Owner::Done) {
            if part.freshness != Freshness::Fresh {
                return PartAnswer { claimed: false, has_size: true, completing: Vec::new() };
            }
            chord.claim = None;
        }
        let counters = &mut chord.counters;
        if counters.members.is_empty() {
            counters.parts.clear();
            counters.first.clear();
        }
        if counters.members.insert((part.task_id.to_owned(), part.index)) {
            let behind = |(index, _): &&(Option<i64>, Vec<u8>)| {
                part.ordered && part.index.is_some() && index.is_none_or(|index| Some(index) > part.index)
            };
            let place =
                counters.parts.iter().position(|other| behind(&other)).unwrap_or(counters.parts.len());
            counters.parts.insert(place, (part.index, part.encoded.to_vec()));
        }
        let count = counters.parts.len();
        counters.until = match (times.expires, counters.size) {
            (0, None) => until(now, STRAY_SECONDS),
            (expires, _) => until(now, expires),
        };
        let (has_size, is_complete) = (chord.counters.size.is_some(), chord.is_complete());
        if !is_complete && chord.counters.first.is_empty() {
            chord.counters.first = part.completing.to_vec();
        }
        let does_not_know = part.completing.is_empty();
        let completing = if does_not_know { chord.counters.first.clone() } else { part.completing.to_vec() };
        let mut claimed = false;
        if !has_size {
            let is_gone = chord.owner(now) == Some(&Owner::Gone);
            if part.freshness != Freshness::Redelivered && !is_gone && !is_registered {
                self.register(group_id, later(now, times.size), &completing, Some(count));
            }
        } else if is_complete && chord.owner(now).is_none() {
            claimed = true;
            chord.claim = Some((Owner::Token(part.token.to_owned()), until(now, times.claim)));
            self.register(group_id, later(now, times.claim), &completing, None);
        }
        PartAnswer { claimed, has_size, completing: if does_not_know { completing } else { Vec::new() } }
    }

    /// Returns the parts that have returned.
    pub(super) fn parts(&mut self, now: DateTime<Utc>, group_id: &str) -> Vec<Vec<u8>> {
        self.chord(now, group_id).counters.parts.iter().map(|(_, part)| part.clone()).collect()
    }

    /// Keeps a claim for longer; `false` when another worker has it, or nothing is left to claim.
    pub(super) fn extend(&mut self, now: DateTime<Utc>, group_id: &str, token: &str, times: Times) -> bool {
        let seconds = PUBLISH_SECONDS.max(times.claim);
        let chord = self.chord(now, group_id);
        let is_ours = match chord.owner(now) {
            Some(owner) => *owner == Owner::Token(token.to_owned()),
            None => chord.counters.size.is_some(),
        };
        if is_ours {
            chord.claim = Some((Owner::Token(token.to_owned()), until(now, seconds)));
            if let Some(registered) = self.registered.get_mut(group_id) {
                registered.look_at = later(now, seconds);
            }
        }
        is_ours
    }

    /// Ends a chord of which the body was sent; `false` when another worker has it.
    pub(super) fn clean(&mut self, now: DateTime<Utc>, group_id: &str, token: &str, times: Times) -> bool {
        let chord = self.chord(now, group_id);
        if chord.owner(now) != Some(&Owner::Token(token.to_owned())) {
            return false;
        }
        chord.counters = Counters::default();
        chord.claim = Some((Owner::Done, until(now, times.done)));
        self.registered.remove(group_id);
        true
    }

    /// Ends a chord that failed: a late copy of a part does not fail it again.
    pub(super) fn fail(&mut self, now: DateTime<Utc>, group_id: &str, times: Times) {
        self.registered.remove(group_id);
        let chord = self.chord(now, group_id);
        if !chord.counters.members.is_empty() {
            // The returned parts stay for a time: they show what became of each.
            let parts = std::mem::take(&mut chord.counters.parts);
            let kept = until(now, if times.expires == 0 { times.done } else { times.expires });
            chord.counters = Counters { parts, until: kept, ..Counters::default() };
            chord.claim = Some((Owner::Done, until(now, times.done)));
        } else if chord.owner(now) != Some(&Owner::Done) {
            chord.claim = Some((Owner::Gone, until(now, STRAY_SECONDS.max(times.expires))));
        }
    }

    /// Returns the registered chords whose time has come.
    pub(super) fn overdue(&self, now: DateTime<Utc>) -> Vec<String> {
        let due = self.registered.iter().filter(|(_, registered)| registered.look_at <= now);
        due.map(|(group_id, _)| group_id.clone()).collect()
    }

    /// Lets a registered chord be overdue only after so many seconds.
    pub(super) fn put_off(&mut self, now: DateTime<Utc>, group_id: &str, seconds: u64) {
        if let Some(registered) = self.registered.get_mut(group_id) {
            registered.look_at = later(now, seconds);
        }
    }

    /// Claims an overdue chord and returns the part from which to go on, and whether its size is gone; `None` when
    /// there is nothing to do.
    pub(super) fn reclaim(
        &mut self,
        now: DateTime<Utc>,
        group_id: &str,
        token: &str,
        times: Times,
    ) -> Option<(Vec<u8>, bool)> {
        let chord = self.chord(now, group_id);
        let owner = chord.owner(now).cloned();
        let (count, size, is_complete) =
            (chord.counters.parts.len(), chord.counters.size, chord.is_complete());
        let registered = self.registered.get_mut(group_id)?;
        let seen = registered.seen;
        let is_over = matches!(owner, Some(Owner::Done | Owner::Gone))
            || size.is_some() && !is_complete
            || size.is_none() && count > 0 && seen.is_none();
        if is_over {
            self.registered.remove(group_id);
            return None;
        }
        if size.is_none() && count > 0 && seen != Some(count) {
            registered.seen = Some(count);
            registered.look_at = later(now, times.size);
            return None;
        }
        if owner.is_some() {
            return None;
        }
        registered.look_at = later(now, times.claim);
        let mut completing = registered.completing.clone();
        let chord = self.chord(now, group_id);
        chord.claim = Some((Owner::Token(token.to_owned()), until(now, times.claim)));
        if completing.is_empty() {
            completing.clone_from(&chord.counters.first);
        }
        Some((completing, size.is_none()))
    }

    /// Keeps the counters of a chord from expiring.
    pub(super) fn renew(&mut self, now: DateTime<Utc>, group_id: &str, times: Times) {
        let chord = self.chord(now, group_id);
        if chord.counters.size.is_some() {
            chord.counters.until = until(now, times.expires);
        }
    }
}

fn later(now: DateTime<Utc>, seconds: u64) -> DateTime<Utc> {
    let span = i64::try_from(seconds).ok().and_then(TimeDelta::try_seconds).unwrap_or(TimeDelta::MAX);
    now.checked_add_signed(span).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
