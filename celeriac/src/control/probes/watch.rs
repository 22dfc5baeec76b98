//! Looking after the worker: whether it takes what waits, and starts what it has taken.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::dead_letters::DeadLetterWatch;
use crate::broker::refusals::Effect;
use crate::broker::{Broker, DeadLetterCount};
use crate::control::worker_port::{Condition, WorkerPort};
use crate::node::lock;

/// How often the broker is asked whether it is there, over a connection that the consumer does not use.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// At which of these times the queues are looked at too; an idle worker is to cost the broker little.
const LENGTHS_EVERY: u64 = 2;
/// At which of these times the dead letters are counted, and those dropped that are beyond their bounds.
const DEAD_LETTERS_EVERY: u64 = 5;
/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the broker, or the consumer's loop, may be silent for a worker that is ready. A connected consumer makes a
/// turn at least each second.
const SILENCE: Duration = Duration::from_secs(6);
/// How long messages may wait, with room for them, and none be taken, for a worker that is ready.
const NOTHING_TAKEN: Duration = Duration::from_secs(6);
/// How long messages may wait, with free slots, and none be started, before it is reported.
const NOTHING_STARTED: Duration = Duration::from_secs(10);

/// Watches one worker.
pub(crate) struct Watch {
    worker: Arc<dyn WorkerPort>,
    seen: Mutex<Seen>,
}

/// What was seen, and since when it has been so.
struct Seen {
    /// When the broker answered last.
    broker: Option<Instant>,
    /// How many messages wait, by queue.
    lengths: Vec<(String, u64)>,
    /// How many messages were given up and are kept; `None` where none are.
    dead_letters: Option<DeadLetterCount>,
    /// Messages that had come, and when that number last changed or had no need to.
    received: (u64, Instant),
    /// Tasks that were started, and when that number last changed or had no need to.
    started: (u64, Instant),
    /// Whether the stall that goes on was reported.
    is_reported: bool,
}

impl Watch {
    pub(crate) fn new(worker: Arc<dyn WorkerPort>) -> Self {
        let now = Instant::now();
        let seen = Seen {
            broker: None,
            lengths: Vec::new(),
            dead_letters: None,
            received: (0, now),
            started: (0, now),
            is_reported: false,
        };
        Self { worker, seen: Mutex::new(seen) }
    }

    /// Looks again and again until told to stop.
    pub(crate) async fn run(self: Arc<Self>, broker: Broker, stop: CancellationToken) {
        let mut dead_letters = DeadLetterWatch::new(self.worker.config());
        for time in 0_u64.. {
            if time.is_multiple_of(DEAD_LETTERS_EVERY)
                && let Some(watch) = &mut dead_letters
                && let Ok(Ok(count)) = tokio::time::timeout(PATIENCE, watch.look(&broker)).await
            {
                lock(&self.seen).dead_letters = Some(count);
            }
            let names = self.queues();
            if time.is_multiple_of(LENGTHS_EVERY) && !names.is_empty() {
                let looked = tokio::time::timeout(PATIENCE, broker.lengths(&names)).await;
                if let Ok(Ok(Some(lengths))) = looked {
                    let mut seen = lock(&self.seen);
                    seen.broker = Some(Instant::now());
                    seen.lengths = names.into_iter().zip(lengths).collect();
                }
            } else if let Ok(Ok(Some(_))) = tokio::time::timeout(PATIENCE, broker.ping()).await {
                lock(&self.seen).broker = Some(Instant::now());
            }
            self.judge();
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Why the worker is not ready; empty when it is.
    pub(super) fn unready(&self) -> Vec<String> {
        let condition = self.worker.condition();
        let mut reasons = Vec::new();
        if condition.is_draining {
            reasons.push("the worker is shutting down".to_owned());
        } else if !condition.consumes {
            reasons.push("the worker is starting".to_owned());
        }
        reasons.extend(condition.shortage);
        let seen = lock(&self.seen);
        match seen.broker.map(|answered| answered.elapsed()) {
            None => reasons.push("the broker has not answered yet".to_owned()),
            Some(silence) if silence > SILENCE => {
                reasons.push(format!("the broker has not answered for {} s", silence.as_secs()));
            }
            Some(_) => {}
        }
        if condition.consumes && !condition.is_draining {
            if condition.consumer_age > SILENCE {
                let seconds = condition.consumer_age.as_secs();
                reasons.push(format!("the consumer has not reached the broker for {seconds} s"));
            }
            if seen.received.1.elapsed() > NOTHING_TAKEN {
                reasons.push(format!(
                    "messages wait and none was taken for {} s",
                    seen.received.1.elapsed().as_secs()
                ));
            }
        }
        reasons.extend(self.refused(Effect::Unready));
        reasons.extend(condition.troubles);
        reasons
    }

    /// Why the worker does its work more slowly, or with a weaker guarantee, than it could.
    pub(super) fn limits(&self) -> Vec<String> {
        self.refused(Effect::Limited).collect()
    }

    fn refused(&self, effect: Effect) -> impl Iterator<Item = String> {
        let refusals = self.worker.refusals().into_iter();
        refusals.filter(move |refusal| refusal.effect == effect).map(|refusal| refusal.to_string())
    }

    /// Why the worker must be replaced; `None` when it lives.
    pub(super) fn stalled(&self) -> Option<String> {
        let (condition, limit) = (self.worker.condition(), self.worker.config().celeriac_stall_timeout);
        if limit.is_zero() {
            return None;
        }
        if condition.runtime_age > limit {
            let seconds = condition.runtime_age.as_secs();
            return Some(format!(
                "no thread of the worker has had a turn for {seconds} s\nhint: tasks that compute or block are to be `fn`, not `async fn`"
            ));
        }
        let broker_answers = lock(&self.seen).broker.is_some_and(|answered| answered.elapsed() <= SILENCE);
        let is_consuming = condition.consumes && !condition.is_draining;
        if is_consuming && broker_answers && condition.consumer_age > limit {
            let seconds = condition.consumer_age.as_secs();
            return Some(format!(
                "the consumer's loop stands still for {seconds} s though the broker answers"
            ));
        }
        None
    }

    /// The worker that is watched.
    pub(super) fn worker(&self) -> &dyn WorkerPort {
        &*self.worker
    }

    /// How many messages waited when they were last looked at, by queue.
    pub(super) fn lengths(&self) -> Vec<(String, u64)> {
        lock(&self.seen).lengths.clone()
    }

    /// How many messages were given up and are kept, when they were last counted; `None` where none are.
    pub(super) fn dead_letters(&self) -> Option<DeadLetterCount> {
        lock(&self.seen).dead_letters
    }

    fn queues(&self) -> Vec<String> {
        self.worker.queues().into_iter().map(|queue| queue.name).collect()
    }

    /// Takes note of whether there is progress where it is due, and reports a stall once.
    fn judge(&self) {
        let Condition { has_room, free_slots, waiting, received, started, is_draining, .. } =
            self.worker.condition();
        let (now, mut seen) = (Instant::now(), lock(&self.seen));
        let queued: u64 = seen.lengths.iter().map(|(_, length)| length).sum();
        let could_take = queued > 0 && has_room && !is_draining;
        if seen.received.0 != received || !could_take {
            seen.received = (received, now);
        }
        let could_start = free_slots > 0 && !is_draining && (could_take || waiting > 0);
        if seen.started.0 != started || !could_start {
            seen.started = (started, now);
            seen.is_reported = false;
        }
        let stands = seen.started.1.elapsed();
        if stands > NOTHING_STARTED && !std::mem::replace(&mut seen.is_reported, true) {
            let hostname = self.worker.state().hostname.as_str();
            log::error!(worker = hostname, queued, waiting, free_slots; "{hostname} stalls: {queued} message(s) are queued and {waiting} taken, {free_slots} slot(s) are free, and nothing has started for {} s", stands.as_secs());
        }
    }
}
