//! The leases under which this worker holds messages, renewed while it lives.

use std::time::{Duration, Instant};

use redis::{Cmd, Pipeline, cmd};

use super::{Consumer, Entry, Receiver};
use crate::broker::redis::exchange::exchange;

/// How often leases are renewed.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How long after its last renewal a worker's messages may be taken over, if the visibility timeout is not shorter.
const LEASE: Duration = Duration::from_secs(40);
/// Most tags that one command renews.
const RENEW_BATCH: usize = 500;

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
        LEASE.min(self.visibility_timeout)
    }

    pub(super) fn renewal_interval(&self) -> Duration {
        RENEW_EVERY.min(self.visibility_timeout / 4)
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
