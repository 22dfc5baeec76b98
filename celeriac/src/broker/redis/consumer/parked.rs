//! Messages that are put aside until their eta, so that no worker's memory holds them.
//!
//! A parked message stays in kombu's `unacked`. Its score in `unacked_index` is the one that it would have if it were
//! delivered at its eta, so nobody has to renew it, and whoever sweeps brings it back soon after its eta if no celeriac
//! worker takes it. That score depends on the visibility timeout of the worker that parks; who claims goes by a mark. A sorted set for each queue, by eta, tells celeriac workers what is due. See
//! `docs/adr/0003-parked-etas.md`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use redis::{Pipeline, Value};

use super::part::Part;
use super::{Arrival, Consumer, Entry};
use crate::broker::Receiver;
use crate::broker::redis::Keys;
use crate::broker::redis::connection::server_error;
use crate::broker::redis::restore::split_unacked;
use crate::broker::redis::script::eval;
use crate::broker::redis::transaction::Transaction;
use crate::broker::refusals::Work;
use crate::failpoints::fail_point;

/// Takes the messages of a set that are due and lets them be held by the caller. An entry of which the message was
/// acknowledged, or brought back by somebody else, is only removed: the message is not marked as parked any more, and its
/// score is not the one that parking under the caller's visibility timeout gives (earlier releases parked without mark).
///
/// Keys: set, `unacked`, `unacked_index`. Arguments: now, most messages, delay of scores, score of a held message, mark.
const CLAIM: &str = r"
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local claimed = {}
for i = 1, #due, 2 do
  redis.call('ZREM', KEYS[1], due[i])
  local score = redis.call('ZSCORE', KEYS[3], due[i])
  local message = score and redis.call('HGET', KEYS[2], due[i])
  if message and (string.sub(message, -1) == ARGV[5] or tonumber(score) == due[i + 1] - ARGV[3]) then
    redis.call('ZADD', KEYS[3], ARGV[4], due[i])
    claimed[#claimed + 1] = message
  end
end
return claimed";

/// Ends the value of a parked message in `unacked`: white space to every reader of JSON. Whoever takes the message from its
/// queue again writes the value without it.
pub(crate) const MARK: u8 = b'\n';

/// How often a set that others change is read again, at most.
const READ_EVERY: Duration = Duration::from_millis(100);
/// How often a set is read although nothing is known to have changed.
const IDLE_READ: Duration = Duration::from_secs(5);

/// After how many seconds a set is tried that may not be read, or was refused.
const BLIND_CLAIM: f64 = 1.0;

/// The sets of parked messages of all queues that are consumed from.
#[derive(Default)]
pub(super) struct Parked {
    sets: Vec<Set>,
}

struct Set {
    queue: Arc<str>,
    key: String,
    /// When the first message is due, by the server's clock.
    next: Option<f64>,
    /// Whether `next` may be wrong.
    is_stale: bool,
    /// When it was read, and the server took note of that; `None` if that note is gone.
    read: Option<Instant>,
    /// Whether the server refused the last claim.
    is_refused: bool,
}

impl Set {
    fn is_to_be_read(&self) -> bool {
        let Some(read) = self.read else { return true };
        read.elapsed() >= if self.is_stale { READ_EVERY } else { IDLE_READ }
    }
}

impl Parked {
    /// Serves those queues from now on.
    pub(super) fn set_queues(&mut self, queues: &[Arc<str>], keys: &Keys) {
        let set = |queue: &Arc<str>| Set {
            queue: Arc::clone(queue),
            key: keys.parked(queue),
            next: None,
            is_stale: true,
            read: None,
            is_refused: false,
        };
        self.sets = queues.iter().map(set).collect();
    }

    /// Notes that a set was changed by this worker: the server tells it of no change until it reads the set again.
    fn note_own_change(&mut self, queue: &str) {
        self.sets.iter_mut().filter(|set| &*set.queue == queue).for_each(|set| set.read = None);
    }

    /// Notes that somebody changed those keys, or any.
    pub(super) fn note_changes(&mut self, keys: Option<&Value>) {
        let Some(Value::Array(keys)) = keys else {
            self.sets.iter_mut().for_each(|set| set.is_stale = true);
            return;
        };
        for key in keys {
            let is_it =
                |set: &&mut Set| matches!(key, Value::BulkString(key) if set.key.as_bytes() == &key[..]);
            if let Some(set) = self.sets.iter_mut().find(is_it) {
                set.is_stale = true;
            }
        }
    }

    /// When something is due or to be read again, from `now` on the server's clock.
    pub(super) fn wake_in(&self, now: f64, has_room: bool) -> Option<Duration> {
        let due = |set: &Set| {
            let wait = Duration::try_from_secs_f64((set.next? - now).max(0.0)).unwrap_or(IDLE_READ);
            has_room.then_some(wait)
        };
        let reading = |set: &Set| {
            let pause = if set.is_stale { READ_EVERY } else { IDLE_READ };
            pause.saturating_sub(set.read.map_or(pause, |read| read.elapsed()))
        };
        self.sets.iter().map(|set| due(set).unwrap_or(IDLE_READ).min(reading(set))).min()
    }

    /// Asks when the first message of each set is due, where that is not known; returns which sets were asked.
    pub(super) fn read(&mut self, commands: &mut Pipeline) -> Vec<usize> {
        let mut asked = Vec::new();
        for (number, set) in self.sets.iter_mut().enumerate() {
            if set.is_to_be_read() {
                commands.cmd("ZRANGE").arg(&set.key).arg(0).arg(0).arg("WITHSCORES");
                set.read = Some(Instant::now());
                set.is_stale = false;
                asked.push(number);
            }
        }
        asked
    }

    /// Reads a reply to [`Parked::read`], at `now` on the server's clock. A set that may not be read is tried now and then.
    pub(super) fn note_next(&mut self, number: usize, reply: &Value, now: f64) {
        let set = &mut self.sets[number];
        set.next = match server_error(reply) {
            Some(_) => Some(now + BLIND_CLAIM),
            None if set.is_refused => first_score(reply).map(|next| next.max(now + BLIND_CLAIM)),
            None => first_score(reply),
        };
    }
}

/// The score in `[[member, score]]`, or in `[member, score]`.
fn first_score(reply: &Value) -> Option<f64> {
    match reply {
        Value::Array(items) => first_score(items.last()?),
        Value::Double(score) => Some(*score),
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

impl<R: Receiver> Consumer<R> {
    /// Puts a message aside until its eta.
    pub(super) fn park(&mut self, transaction: &mut Transaction, entry: Entry, eta: DateTime<Utc>) {
        let due = eta.timestamp_micros() as f64 / 1e6;
        self.parked.note_own_change(&entry.queue);
        transaction.park(&entry, due - self.score_delay(), self.keys.parked(&entry.queue), due);
        if let Some(slot) = entry.slot {
            self.slots.settle(slot, entry.raw);
        }
    }

    /// Asks for up to `room` messages that are due; returns from which set.
    pub(super) fn plan_claim(&mut self, room: usize, commands: &mut Pipeline) -> Option<usize> {
        let now = self.clock.now();
        let (score, delay) = (self.score().to_string(), self.score_delay().to_string());
        let due = self.parked.sets.iter_mut().enumerate().filter_map(|(number, set)| {
            let next = set.next.filter(|next| *next <= now)?;
            Some((next, number, set))
        });
        // What waits longest comes first.
        let first = due.min_by(|left, right| left.0.total_cmp(&right.0)).filter(|_| room > 0)?;
        let (_, number, set) = first;
        let keys = [&set.key, &self.keys.unacked, &self.keys.unacked_index];
        let (now, most) = (now.to_string(), room.to_string());
        let arguments = [now.as_bytes(), most.as_bytes(), delay.as_bytes(), score.as_bytes(), &[MARK]];
        commands.add_command(eval(CLAIM, &keys, &arguments));
        set.read = None;
        Some(number)
    }

    /// Takes messages that are due.
    pub(super) fn take_claimed(&mut self, number: usize, reply: Option<Value>) -> Option<String> {
        let queue = Arc::clone(&self.parked.sets[number].queue);
        let reply = reply?;
        let Value::Array(claimed) = reply else {
            self.parked.sets[number].is_refused = true;
            return self.note_refusal(&reply, Work::Etas, &queue);
        };
        if std::mem::take(&mut self.parked.sets[number].is_refused) {
            self.refusals.end(Work::Etas, &queue);
        }
        fail_point!("park.claimed");
        for stored in claimed {
            if let Value::BulkString(stored) = stored
                && let Some((raw, ..)) = split_unacked(&stored)
            {
                let raw = Bytes::copy_from_slice(raw);
                self.sources.note_size(raw.len());
                self.arrived.push(Arrival { raw, queue: Arc::clone(&queue), slot: None });
            }
        }
        None
    }

    /// Commits the acknowledgement of claimed messages that the receiver started at once.
    pub(super) fn add_acknowledged(&mut self, transaction: &mut Transaction) {
        for entry in std::mem::take(&mut self.acknowledged) {
            transaction.add(Part { entry: Some(entry), ..Part::default() });
        }
    }
}
