//! The loop: finds what is due, records it, sends it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use log::{error, info, warn};

use crate::entry::{Entry, Run};
use crate::publish::Publish;
use crate::schedule::Terms;
use crate::store::{Recorded, ScheduleStore, Standing, StoreError};

/// Time after which a disabled entry is looked at again, as in RedBeat.
const DISABLED_LOOK: TimeDelta = TimeDelta::seconds(5);

/// Celery's default of `beat_max_loop_interval`.
pub const DEFAULT_MAX_INTERVAL: Duration = Duration::from_secs(300);

/// Time in which the broker must take a message.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Half the pause before a run that the broker did not take is first sent again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause before a run that the broker did not take is sent again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Sends the entries of a store when they are due, as long as it leads.
pub struct Scheduler<S, P> {
    store: S,
    publisher: P,
    configured: Vec<Entry>,
    terms: Terms,
    max_interval: Duration,
    standing: Option<Standing>,
    /// Recorded runs that the broker has not taken yet, by entry: one for each, as missed runs are not caught up.
    unsent: BTreeMap<String, Unsent>,
    /// Runs that were sent but not struck off yet: they must not be sent again.
    sent: Vec<Run>,
}

struct Unsent {
    run: Run,
    attempts: u32,
    retry_at: DateTime<Utc>,
}

impl<S: ScheduleStore, P: Publish> Scheduler<S, P> {
    /// A scheduler of those configured entries, and of others that the store may hold.
    pub fn new(store: S, publisher: P, configured: Vec<Entry>, terms: Terms) -> Self {
        Self {
            store,
            publisher,
            configured,
            terms,
            max_interval: DEFAULT_MAX_INTERVAL,
            standing: None,
            unsent: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    /// Sleeps no longer than this between two ticks (setting `beat_max_loop_interval`); zero takes the default.
    pub fn max_interval(mut self, max_interval: Duration) -> Self {
        self.max_interval = if max_interval.is_zero() { DEFAULT_MAX_INTERVAL } else { max_interval };
        self
    }

    /// Sends all that is due at `now`, if this beat leads. Returns the time until the next tick.
    ///
    /// # Errors
    /// When the store fails. Nothing is lost: what was not recorded is still due, what was recorded is still pending.
    pub async fn tick(&mut self, now: DateTime<Utc>) -> Result<Duration, StoreError> {
        let rest = self.max_interval.min(self.store.heartbeat());
        if !self.lead(now).await? {
            return Ok(rest);
        }
        self.send_unsent(now).await?;
        let look = self.store.look(now, self.max_interval).await?;
        let mut wake = look.next;
        for entry in look.entries {
            let Some(next) = self.visit(entry, now).await? else { return Ok(Duration::ZERO) };
            wake = Some(wake.map_or(next, |wake| wake.min(next)));
        }
        let retry = self.unsent.values().map(|unsent| unsent.retry_at).min();
        let wake = wake.into_iter().chain(retry).min();
        Ok(wake.map_or(rest, |wake| (wake - now).to_std().unwrap_or_default().min(rest)))
    }

    /// Ends: gives the lock back.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn stop(&mut self) -> Result<(), StoreError> {
        self.store.release().await
    }

    /// Whether this beat leads; who begins to lead takes over the store.
    async fn lead(&mut self, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let before = self.standing.take();
        let standing = self.store.lead().await?;
        match standing {
            Standing::StandBy if before != Some(Standing::StandBy) => {
                info!("another beat holds the lock; standing by");
            }
            Standing::Leader if before != Some(Standing::Leader) => {
                self.store.open(&self.configured, now, &self.terms).await?;
                // Another beat may have sent what this one had not.
                self.unsent.clear();
                for run in self.store.pending().await? {
                    if !self.sent.iter().any(|sent| sent.id == run.id) {
                        self.unsent.insert(run.entry.clone(), Unsent { run, attempts: 0, retry_at: now });
                    }
                }
                info!("this beat sends; {} configured entries", self.configured.len());
            }
            _ => {}
        }
        self.standing = Some(standing);
        Ok(standing == Standing::Leader)
    }

    /// Sends an entry if it is due. Returns when to look at it again, or nothing if this beat does not lead any more.
    async fn visit(
        &mut self,
        mut entry: Entry,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        if !entry.enabled {
            self.store.reschedule(&entry, now + DISABLED_LOOK).await?;
            return Ok(Some(now + DISABLED_LOOK));
        }
        let state = entry.is_due(now, &self.terms);
        let next = now + state.next;
        if !state.is_due {
            self.store.reschedule(&entry, next).await?;
            return Ok(Some(next));
        }
        let run = entry.advance(now);
        match self.store.record(&entry, next, &run).await? {
            Recorded::Recorded => {
                if let Some(earlier) =
                    self.unsent.insert(entry.name, Unsent { run, attempts: 0, retry_at: now })
                {
                    let Run { entry, run_at, .. } = earlier.run;
                    warn!("Scheduler: {entry} is due again; its run of {run_at} was not sent and is dropped");
                }
                self.send_unsent(now).await?;
            }
            Recorded::Gone => {}
            Recorded::NotLeader => {
                self.standing = None;
                return Ok(None);
            }
        }
        Ok(Some(next))
    }

    /// Sends recorded runs whose time has come, and strikes off what was sent.
    async fn send_unsent(&mut self, now: DateTime<Utc>) -> Result<(), StoreError> {
        for unsent in self.unsent.values_mut().filter(|unsent| unsent.retry_at <= now) {
            let Run { id, entry, task, .. } = &unsent.run;
            let task_id = id.to_string();
            let published = tokio::time::timeout(PUBLISH_TIMEOUT, self.publisher.publish(&unsent.run)).await;
            let failure = match published {
                Ok(Ok(())) => {
                    info!(task_id = task_id.as_str(), task_name = task.as_str();
                        "Scheduler: Sending due task {entry} ({task})");
                    self.sent.push(unsent.run.clone());
                    continue;
                }
                Ok(Err(failure)) => failure.to_string(),
                Err(_) => format!("no answer within {} s", PUBLISH_TIMEOUT.as_secs()),
            };
            unsent.attempts += 1;
            let pause = FIRST_PAUSE.saturating_mul(1 << unsent.attempts.min(10)).min(LONGEST_PAUSE);
            unsent.retry_at = now + pause;
            error!(task_id = task_id.as_str(), task_name = task.as_str();
                "Scheduler: cannot send {entry} ({task}), trying again in {:.1} s: {failure}", pause.as_secs_f64());
        }
        let sent = &self.sent;
        self.unsent.retain(|_, unsent| !sent.iter().any(|sent| sent.id == unsent.run.id));
        while let Some(run) = self.sent.last() {
            self.store.sent(run).await?;
            self.sent.pop();
        }
        Ok(())
    }
}
