//! What the server refuses while the rest of a worker goes on: logged once per state change, and shown by the probes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::refusal::code;

/// Most refusals of one kind that are kept apart; what comes on top is counted with the last one.
const MOST: usize = 100;

/// The work that a refusal keeps a worker from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// Taking messages from a queue.
    Fetch,
    /// Taking messages of a queue that were put aside until their eta.
    Etas,
    /// Keeping queues bound to an exchange.
    Bind,
    /// Renewing the leases of what the worker holds.
    Lease,
    /// Looking for the messages of dead workers.
    Sweep,
    /// Bringing messages of dead workers back to a list.
    Restore,
    /// Reading entries of `unacked`.
    Read,
    /// Using a command.
    Right,
    /// Using a command at a result backend with a database of its own.
    Results,
}

impl Work {
    /// The word for metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Work::Fetch => "fetch",
            Work::Etas => "etas",
            Work::Bind => "bind",
            Work::Lease => "lease",
            Work::Sweep => "sweep",
            Work::Restore => "restore",
            Work::Read => "read",
            Work::Right => "right",
            Work::Results => "results",
        }
    }
}

/// What a refusal means for the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Some of its work is not done.
    Unready,
    /// All of its work is done, but more slowly or with a weaker guarantee.
    Limited,
    /// It is somebody else's affair.
    None,
}

/// Something that the server refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) work: Work,
    /// The queue, list, exchange, key or command.
    pub(crate) subject: String,
    /// The server's words, or the consequence of a missing right.
    pub(crate) reason: String,
    /// How many messages it concerns, where they are counted.
    pub(crate) count: u64,
    pub(crate) effect: Effect,
}

impl Refusal {
    /// A refusal that keeps the worker from some of its work.
    pub(crate) fn new(work: Work, subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { work, subject: subject.into(), reason: reason.into(), count: 1, effect: Effect::Unready }
    }

    /// The same refusal with another effect.
    pub(crate) fn with(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { work, subject, reason, count, .. } = self;
        match work {
            Work::Fetch => write!(f, "queue {subject} cannot be consumed: {reason}"),
            Work::Etas => {
                write!(f, "messages of queue {subject} that wait for their eta cannot be taken: {reason}")
            }
            Work::Bind => write!(f, "the bindings of exchange {subject} cannot be written: {reason}"),
            Work::Lease => write!(f, "leases cannot be renewed, so nothing is fetched: {reason}"),
            Work::Sweep => write!(f, "messages of dead workers cannot be looked for: {reason}"),
            Work::Restore => {
                write!(f, "{count} message(s) of dead workers cannot go back to {subject}: {reason}")
            }
            Work::Read => write!(
                f,
                "{count} value(s) of {subject} are not [message, exchange, routing_key] and stay where they are, such as {reason}"
            ),
            Work::Right => write!(f, "no right to {subject}: {reason}"),
            Work::Results => write!(f, "no right to {subject} at the result backend: {reason}"),
        }
    }
}

/// The refusals that go on now; shared by the parts of a worker.
#[derive(Default)]
pub(crate) struct Refusals {
    known: Mutex<BTreeMap<(Work, String), Refusal>>,
}

impl Refusals {
    /// Notes a refusal, and logs it if it is new.
    pub(crate) fn note(&self, refusal: Refusal) {
        let mut known = self.lock();
        let crowded = known.keys().filter(|(work, _)| *work == refusal.work).count() >= MOST;
        match known.entry((refusal.work, refusal.subject.clone())) {
            Entry::Occupied(mut entry) => {
                if code(&entry.get().reason) != code(&refusal.reason) {
                    log(&refusal);
                }
                entry.insert(refusal);
            }
            Entry::Vacant(_) if crowded => {}
            Entry::Vacant(entry) => {
                log(&refusal);
                entry.insert(refusal);
            }
        }
    }

    /// Notes that the server takes something again.
    pub(crate) fn end(&self, work: Work, subject: &str) {
        if let Some(refusal) = self.lock().remove(&(work, subject.to_owned())) {
            log_end(&refusal);
        }
    }

    /// Notes all refusals of a kind: others of that kind have ended.
    pub(crate) fn replace(&self, work: Work, refusals: Vec<Refusal>) {
        let ended: Vec<Refusal> = {
            let mut known = self.lock();
            let gone = known.extract_if(.., |(known, subject), _| {
                *known == work && !refusals.iter().any(|refusal| refusal.subject == *subject)
            });
            gone.map(|(_, refusal)| refusal).collect()
        };
        ended.iter().for_each(log_end);
        refusals.into_iter().for_each(|refusal| self.note(refusal));
    }

    /// Returns all refusals that go on.
    pub(crate) fn all(&self) -> Vec<Refusal> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Work, String), Refusal>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(refusal: &Refusal) {
    let level = if refusal.effect == Effect::Unready { log::Level::Error } else { log::Level::Warn };
    let Refusal { work, subject, count, .. } = refusal;
    log::log!(level, work = work.as_str(), subject = subject.as_str(), count; "The broker refuses something: {refusal}");
}

fn log_end(refusal: &Refusal) {
    let Refusal { work, subject, .. } = refusal;
    log::info!(work = work.as_str(), subject = subject.as_str(); "The broker refuses no longer: {refusal}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_end_when_they_are_not_named_again() {
        let refusals = Refusals::default();
        refusals.note(Refusal::new(Work::Fetch, "bad", "WRONGTYPE"));
        refusals.note(Refusal::new(Work::Restore, "bad", "WRONGTYPE"));
        refusals.note(Refusal::new(Work::Restore, "worse", "NOPERM"));
        refusals.replace(
            Work::Restore,
            vec![Refusal { count: 3, ..Refusal::new(Work::Restore, "worse", "NOPERM") }],
        );
        let left: Vec<_> =
            refusals.all().into_iter().map(|left| (left.work, left.subject, left.count)).collect();
        assert_eq!(left, [(Work::Fetch, "bad".to_owned(), 1), (Work::Restore, "worse".to_owned(), 3)]);
        refusals.end(Work::Fetch, "bad");
        assert_eq!(refusals.all().len(), 1);
    }
}
