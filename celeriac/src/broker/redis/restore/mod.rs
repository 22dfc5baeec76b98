//! Bringing back the messages that dead workers held: the sweep over `unacked` and over abandoned in-flight lists.
//!
//! Each message is moved by a script that changes nothing unless it can do everything: a queue that refuses a message
//! keeps neither that message from being found again nor the messages of other queues from going back.
//!
//! Source of the `unacked` part: kombu 5.7 `QoS.restore_visible`. The transaction there watches the whole hash;
//! ours compares and moves each message in a script, so that a busy fleet does not starve it, and many at a round trip.

mod abandoned;
mod round;
mod unacked;
mod unsettled;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use redis::{Pipeline, Value};
use tokio_util::sync::CancellationToken;

use super::clock::ServerClock;
use super::exchange::is_full;
use super::refusal::is_passing;
use super::script::eval;
use super::{Keys, Link, Queues};
use crate::broker::BrokerError;
use crate::broker::refusals::{Effect, Refusal, Refusals, Work};
use crate::config::Config;
use crate::failpoints::fail_point;
use round::Round;
pub(crate) use unacked::split_unacked;

/// Gives the lock of a sweep back.
const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";

/// How often a sweep is made.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// The shortest time between sweeps that can be asked for.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// How long a sweeper waits after it came, so that workers that lost the server too can renew first.
const GRACE: Duration = Duration::from_secs(10);
/// How long the lock of a sweep lasts at most. It only saves work: what is moved is compared at that moment.
const MUTEX_MILLISECONDS: u64 = 15_000;
/// How long somebody else may have the lock before it is taken for forgotten: kombu's lasts 300 s.
const FORGOTTEN_LOCK: Duration = Duration::from_secs(330);
/// Most messages that one sweep brings back; the next one follows at once.
const SWEEP_LIMIT: usize = 10_000;
/// Most messages that are brought back at a time.
const BATCH: usize = 100;

/// Brings back what nobody holds any more.
pub(crate) struct Sweeper {
    queues: Queues,
    link: Link,
    keys: Arc<Keys>,
    visibility_timeout: Duration,
    /// How often a sweep looks at what is recorded (`unacked_restore_interval`).
    interval: Duration,
    /// When it last did.
    looked: Option<Instant>,
    clock: ServerClock,
    /// The queue for what does not say where it came from.
    lost_and_found: String,
    refusals: Arc<Refusals>,
    /// The overdue entries of `unacked` that stayed at the last sweep, and why.
    kept: HashMap<Vec<u8>, Kept>,
    /// From which overdue entry the next sweep looks on.
    offset: usize,
    /// Since when somebody else has had the lock.
    locked: Option<Instant>,
}

/// Why an entry of `unacked` stays.
#[derive(Clone)]
enum Kept {
    /// It is not a message.
    Foreign,
    /// The server refuses to push it to that list.
    Refused(String),
}

impl Sweeper {
    /// A sweeper that looks at what is recorded every `interval`, and puts what does not say where it came from, as it
    /// cannot be read, into the queue `lost_and_found`.
    pub(crate) fn new(
        queues: Queues,
        visibility_timeout: Duration,
        interval: Option<Duration>,
        lost_and_found: String,
        refusals: Arc<Refusals>,
    ) -> Self {
        Self {
            link: queues.link().clone(),
            keys: Arc::clone(queues.keys()),
            queues,
            visibility_timeout,
            interval: interval.unwrap_or(SWEEP_EVERY).max(SHORTEST_INTERVAL),
            looked: None,
            clock: ServerClock::default(),
            lost_and_found,
            refusals,
            kept: HashMap::new(),
            offset: 0,
            locked: None,
        }
    }

    /// The sweeper of a broker under those settings.
    pub(crate) fn of(
        queues: Queues,
        config: &Config,
        lost_and_found: String,
        refusals: Arc<Refusals>,
    ) -> Self {
        let transport = &config.broker_transport_options;
        let interval = transport.seconds_above_zero("unacked_restore_interval");
        Self::new(queues, transport.visibility_timeout(), interval, lost_and_found, refusals)
    }

    /// Sweeps now and then until cancelled, and counts the messages that it brings back.
    pub(crate) async fn run(mut self, restored: IntCounter, stop: CancellationToken) {
        let mut healthy_since = None;
        let interval = SWEEP_EVERY.min(self.visibility_timeout).min(self.interval);
        let grace = GRACE.min(self.visibility_timeout);
        let mut pause = interval;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = interval;
            let result = match self.contact().await {
                Ok(()) if healthy_since.get_or_insert_with(tokio::time::Instant::now).elapsed() < grace => {
                    Ok(0)
                }
                Ok(()) => self.sweep_locked().await,
                Err(error) => Err(error),
            };
            match result {
                Ok(0) => {}
                Ok(count) => {
                    log::warn!(count; "Restored {count} unacknowledged message(s) of workers that are gone");
                    restored.inc_by(count);
                    if count >= SWEEP_LIMIT as u64 {
                        pause = Duration::ZERO;
                    }
                }
                Err(error) => {
                    healthy_since = None;
                    log::debug!(error:% = error; "Sweep put off: {error}");
                }
            }
        }
    }

    /// Asks the server for its time. A user that may not ask goes by this machine's.
    async fn contact(&mut self) -> Result<(), BrokerError> {
        let time = self.link.send(Pipeline::new().cmd("TIME")).await?;
        self.clock.set(&time[0]);
        Ok(())
    }

    /// Sweeps under the fleet's lock; returns how many messages it brought back.
    async fn sweep_locked(&mut self) -> Result<u64, BrokerError> {
        let token = uuid::Uuid::new_v4().to_string();
        let mut lock = Pipeline::new();
        lock.cmd("SET").arg(&self.keys.unacked_mutex).arg(&token).arg("NX").arg("PX").arg(MUTEX_MILLISECONDS);
        match self.link.call(&mut lock).await {
            Ok(replies) if replies[0] == Value::Nil => {
                if self.locked.get_or_insert_with(Instant::now).elapsed() < FORGOTTEN_LOCK {
                    return Ok(0);
                }
            }
            Ok(_) => self.locked = None,
            // A full server takes no lock; what the scripts move is compared at that moment anyhow.
            Err(BrokerError::Refused { reason, .. }) if is_full(&reason) || !is_passing(&reason) => {}
            Err(error) => return Err(error),
        }
        fail_point!("sweep.locked");
        let count = self.sweep().await;
        let mut unlock = Pipeline::new();
        unlock.add_command(eval(RELEASE, &[&self.keys.unacked_mutex], &[token.as_bytes()]));
        self.link.send(&mut unlock).await?;
        count
    }

    /// Sweeps once; returns how many messages it brought back. The refusals say what had to stay.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] and [`BrokerError::Timeout`], and [`BrokerError::Refused`] if the server refuses
    /// everything for now.
    pub(crate) async fn sweep(&mut self) -> Result<u64, BrokerError> {
        self.contact().await?;
        let mut round = Round::new(self.queues.clone(), self.lost_and_found.clone());
        let looks =
            self.interval <= SWEEP_EVERY || self.looked.is_none_or(|time| time.elapsed() >= self.interval);
        if looks {
            self.sweep_unacked(&mut round).await?;
            if round.restored < SWEEP_LIMIT as u64 {
                self.looked = Some(Instant::now());
            }
        }
        self.sweep_abandoned(&mut round).await?;
        let Round { restored, refused, foreign, unread, .. } = round;
        if !looks {
            return Ok(restored);
        }
        self.refusals.replace(Work::Restore, refused);
        self.refusals.replace(Work::Sweep, unread);
        // They are another program's: that keeps nobody from anything.
        let foreign = foreign.map(|(count, tag)| {
            let refusal = Refusal::new(Work::Read, &self.keys.unacked, tag).with(Effect::None);
            Refusal { count, ..refusal }
        });
        self.refusals.replace(Work::Read, foreign.into_iter().collect());
        Ok(restored)
    }
}
