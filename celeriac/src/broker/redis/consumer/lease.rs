//! The leases under which this worker holds messages, renewed while it lives.

use std::time::{Duration, Instant};

use redis::{Cmd, Pipeline, Value, cmd};

use super::{Consumer, Entry};
use crate::broker::Receiver;
use crate::broker::redis::Keys;
use crate::broker::redis::exchange::exchange;
use crate::broker::redis::refusal::is_passing;
use crate::broker::redis::script::eval;
use crate::broker::refusals::{Refusal, Work};

/// How often leases are renewed.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How long after its last renewal a worker's messages may be taken over, if the visibility timeout is not shorter.
const LEASE: Duration = Duration::from_secs(40);
/// Most tags that one command renews.
const RENEW_BATCH: usize = 500;

/// Renews the lease of a worker by the server's time.
///
/// Its first write frees memory, so that a full server lets it pass.
const RENEW_LEASE: &str = r"
local time = redis.call('TIME')[1]
redis.call('ZREM', KEYS[1], ARGV[2])
return redis.call('ZADD', KEYS[1], time + ARGV[1], ARGV[2])";

/// The command that registers a worker's in-flight lists, or keeps them registered.
pub(super) fn renew_lease(keys: &Keys, worker: &str, lease: Duration) -> Cmd {
    let seconds = lease.as_secs_f64().to_string();
    eval(RENEW_LEASE, &[&keys.inflight_index], &[seconds.as_bytes(), worker.as_bytes()])
}

/// Returns how long after its last renewal what a worker holds may be taken over.
fn lease(visibility_timeout: Duration) -> Duration {
    LEASE.min(visibility_timeout)
}

fn renewal_interval(visibility_timeout: Duration) -> Duration {
    RENEW_EVERY.min(visibility_timeout / 4)
}

/// Returns how long a worker that stands still may hold a message before it can be taken over: the last renewal may have
/// been an interval before the message came.
pub(crate) fn takeover(visibility_timeout: Duration) -> Duration {
    lease(visibility_timeout) - renewal_interval(visibility_timeout)
}

impl<R: Receiver> Consumer<R> {
    /// The score under which a held message is found again soon after its worker died: as if it had been delivered
    /// so long ago that only the lease is left of its visibility timeout.
    pub(super) fn score(&self) -> f64 {
        self.clock.now() - self.score_delay()
    }

    /// How far in the past the score of a message lies that is held from now on, in seconds.
    pub(super) fn score_delay(&self) -> f64 {
        (self.visibility_timeout - self.lease()).as_secs_f64()
    }

    /// How long after its last renewal what this worker holds may be taken over.
    pub(super) fn lease(&self) -> Duration {
        lease(self.visibility_timeout)
    }

    pub(super) fn renewal_interval(&self) -> Duration {
        renewal_interval(self.visibility_timeout)
    }

    /// Renews with the next round trip.
    pub(super) fn renew_soon(&mut self) {
        self.renewed = Instant::now().checked_sub(RENEW_EVERY).unwrap_or_else(Instant::now);
    }

    /// Writes what renews the leases, if it is time; the first reply is the server's time.
    pub(super) fn plan_renewal(&mut self, commands: &mut Pipeline) -> bool {
        if self.renewed.elapsed() < self.renewal_interval() {
            return false;
        }
        self.renewed = Instant::now();
        commands.cmd("TIME");
        let renewals = self.renewals();
        if self.full.is_on() {
            commands.add_command(exchange(&self.keys.scratch(&self.worker), renewals.iter()));
        } else {
            for renewal in renewals {
                commands.add_command(renewal);
            }
        }
        true
    }

    /// Reads the replies to the renewals; returns why, if the server refuses everything now.
    pub(super) fn note_renewed(&mut self, replies: impl Iterator<Item = Value>) -> Option<String> {
        let index = self.keys.inflight_index.clone();
        let refused: Vec<String> = replies.filter_map(|reply| self.refused(&reply)).collect();
        if let Some(reason) = refused.iter().find(|reason| is_passing(reason)) {
            return Some(reason.clone());
        }
        let was_leased = std::mem::replace(&mut self.is_leased, refused.is_empty());
        if let Some(reason) = refused.into_iter().next() {
            self.refusals.note(Refusal::new(Work::Lease, index, reason));
        } else if !was_leased {
            self.refusals.end(Work::Lease, &index);
            self.handle.wake();
        }
        None
    }

    fn renewals(&self) -> Vec<Cmd> {
        let mut lease = cmd("ZADD");
        let end = self.clock.now() + self.lease().as_secs_f64();
        lease.arg(&self.keys.inflight_index).arg(end).arg(&self.worker);
        let mut renewals = vec![lease];
        let score = self.score();
        let held = self.held.recorded().chain(self.full.entries());
        let tags: Vec<&str> = held.map(Entry::tag).collect();
        for tags in tags.chunks(RENEW_BATCH) {
            let mut renew = cmd("ZADD");
            renew.arg(&self.keys.unacked_index).arg("XX");
            for tag in tags {
                renew.arg(score).arg(*tag);
            }
            renewals.push(renew);
        }
        renewals
    }
}
