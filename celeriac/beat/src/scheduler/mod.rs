//! The loop: finds what is due, records it, sends it.

mod due;
mod unsent;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use log::{info, warn};

use self::unsent::Unsent;
use crate::configured::Configured;
use crate::entry::{Entry, Run};
use crate::health::Health;
use crate::publish::Publish;
use crate::schedule::Terms;
use crate::store::{ScheduleStore, Standing, StoreError};

/// Celery's default of `beat_max_loop_interval`.
pub const DEFAULT_MAX_INTERVAL: Duration = Duration::from_secs(300);

/// A clock that is put back by less than this is not worth a word.
const TOLERANCE: TimeDelta = TimeDelta::seconds(1);

/// Entries that are due within so short a time share a tick.
const SHORTEST_SLEEP: Duration = Duration::from_millis(8);

/// Sends the entries of a store when they are due, as long as it leads.
pub struct Scheduler<S, P> {
    store: S,
    publisher: P,
    configured: Arc<Configured>,
    terms: Terms,
    max_interval: Duration,
    /// Whether this beat leads, as far as it knows.
    leads: Option<bool>,
    /// When the lock was last taken or kept.
    kept_at: Option<Instant>,
    /// Whether the configuration has changed since the store was opened.
    is_reconfigured: bool,
    last_tick: Option<DateTime<Utc>>,
    /// Recorded runs that the broker has not taken yet, where the store does not send them itself.
    unsent: Vec<Unsent>,
    /// Runs that were sent but not struck off yet: they must not be sent again.
    sent: Vec<Run>,
    /// How often in a row an entry could not be sent, for the pause before it is tried again.
    attempts: HashMap<String, u32>,
    health: Health,
    stops: Arc<AtomicBool>,
}

impl<S: ScheduleStore, P: Publish> Scheduler<S, P> {
    /// A scheduler of those configured entries, and of others that the store may hold.
    pub fn new(store: S, publisher: P, configured: Vec<Entry>, terms: Terms) -> Self {
        Self::of(store, publisher, Configured::new(configured), terms)
    }

    /// As [`Scheduler::new`], of entries that are kept small already.
    pub fn of(mut store: S, publisher: P, configured: Configured, terms: Terms) -> Self {
        let configured = Arc::new(configured);
        store.configure(Arc::clone(&configured));
        Self {
            store,
            publisher,
            configured,
            terms,
            max_interval: DEFAULT_MAX_INTERVAL,
            leads: None,
            kept_at: None,
            is_reconfigured: true,
            last_tick: None,
            unsent: Vec::new(),
            sent: Vec::new(),
            attempts: HashMap::new(),
            health: Health::default(),
            stops: Arc::default(),
        }
    }

    /// Sleeps no longer than this between two ticks (setting `beat_max_loop_interval`); zero takes the default.
    #[must_use]
    pub fn max_interval(mut self, max_interval: Duration) -> Self {
        self.max_interval = if max_interval.is_zero() { DEFAULT_MAX_INTERVAL } else { max_interval };
        self
    }

    /// Shows how beat does in this value, which the caller keeps.
    #[must_use]
    pub(crate) fn health_in(mut self, health: Health) -> Self {
        self.health = health;
        self
    }

    /// How beat does, for probes and metrics.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Takes other configured entries from the next tick on.
    pub fn reconfigure(&mut self, configured: Configured) {
        if *self.configured == configured {
            return;
        }
        self.configured = Arc::new(configured);
        self.store.configure(Arc::clone(&self.configured));
        self.is_reconfigured = true;
    }

    /// Something that ends a long tick early, after what it is about to write.
    pub(crate) fn stopper(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stops)
    }

    /// Sends all that is due at `now`, if this beat leads. Returns the time until the next tick.
    ///
    /// Cancel safe: what is recorded and not sent, the next tick or the next beat sends.
    ///
    /// # Errors
    /// When the store fails. Nothing is lost: what was not recorded is still due, what was recorded is still pending.
    pub async fn tick(&mut self, now: DateTime<Utc>) -> Result<Duration, StoreError> {
        let outcome = self.turn(now).await;
        match &outcome {
            Ok(rest) => self.health.ticked(self.leads == Some(true), *rest),
            Err(_) => {
                self.leads = None;
                self.health.failed();
            }
        }
        outcome
    }

    /// Ends: gives the lock back.
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn stop(&mut self) -> Result<(), StoreError> {
        self.store.release().await
    }

    async fn turn(&mut self, now: DateTime<Utc>) -> Result<Duration, StoreError> {
        let rest = self.max_interval.min(self.store.heartbeat());
        if let Some(wait) = self.lead(now).await? {
            self.last_tick = Some(now);
            return Ok(wait.min(rest));
        }
        self.watch_clock(now).await?;
        self.send_unsent(now).await?;
        let mut wake: Option<DateTime<Utc>> = None;
        loop {
            let look = self.store.look(now, self.max_interval).await?;
            let has_more = look.has_more;
            let Some(next) = self.visit(look.entries, now).await? else { return Ok(Duration::ZERO) };
            wake = [wake, look.next, next].into_iter().flatten().min();
            if !has_more || self.stops.load(Ordering::Relaxed) {
                break;
            }
        }
        let wake = wake.into_iter().chain(self.unsent.iter().map(Unsent::retry_at)).min();
        let sleep = wake.map_or(rest, |wake| (wake - now).to_std().unwrap_or_default());
        Ok(sleep.max(SHORTEST_SLEEP).min(rest))
    }

    /// Takes or keeps the lock; who begins to lead takes over the store. Returns the time to wait where another beat leads.
    async fn lead(&mut self, now: DateTime<Utc>) -> Result<Option<Duration>, StoreError> {
        if self.leads == Some(true) && self.is_fresh() && !self.is_reconfigured {
            return Ok(None);
        }
        let before = self.leads.take();
        let standing = self.store.lead(now).await?;
        if let Standing::StandBy(wait) = standing {
            if before != Some(false) {
                info!("another beat holds the lock; standing by");
            }
            self.leads = Some(false);
            return Ok(Some(wait));
        }
        self.kept_at = Some(Instant::now());
        if standing == Standing::Elected || before != Some(true) || self.is_reconfigured {
            self.store.open(now, &self.terms).await?;
            self.is_reconfigured = false;
            self.attempts.clear();
            self.take_over_unsent(now).await?;
            info!("this beat sends; {} configured entries", self.configured.len());
        } else {
            self.store.check(now, &self.terms).await?;
        }
        self.leads = Some(true);
        Ok(None)
    }

    /// Keeps the lock within a tick that takes long; whether this beat still leads.
    async fn keeps_leading(&mut self, now: DateTime<Utc>) -> Result<bool, StoreError> {
        if self.is_fresh() {
            return Ok(true);
        }
        // One that has lost the lock and got it again opens the store in the next tick.
        if self.store.lead(now).await? == Standing::Leader {
            self.kept_at = Some(Instant::now());
            return Ok(true);
        }
        self.leads = None;
        Ok(false)
    }

    fn is_fresh(&self) -> bool {
        self.kept_at.is_some_and(|kept| kept.elapsed() < self.store.heartbeat())
    }

    /// Looks at all entries anew when the clock was put back: their times would else be as far away as it was put back.
    async fn watch_clock(&mut self, now: DateTime<Utc>) -> Result<(), StoreError> {
        if let Some(last) = self.last_tick.filter(|last| *last - now > TOLERANCE) {
            warn!(
                "the clock was put back by {:.1} s: last runs that lie in the future are taken as runs of now",
                (last - now).as_seconds_f64()
            );
            self.store.review(now, &self.terms).await?;
        }
        self.last_tick = Some(now);
        Ok(())
    }
}
