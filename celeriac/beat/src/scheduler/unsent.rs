//! Runs that are recorded and not sent yet, where store and broker are apart.

use std::time::Duration;

use chrono::{DateTime, Utc};
use log::{error, info, warn};

use super::Scheduler;
use super::due::{FIRST_PAUSE, LONGEST_PAUSE, tell_sent};
use crate::entry::{MissedRuns, Run};
use crate::publish::{Publish, PublishError};
use crate::store::{Change, Found, ScheduleStore, StoreError};

/// Time in which the broker must take a message.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// A run that the broker has not taken yet.
pub(super) struct Unsent {
    run: Run,
    /// The entry before the run, and when it runs next; a run that another beat recorded has none.
    before: Option<(Found, Option<DateTime<Utc>>)>,
    attempts: u32,
    retry_at: DateTime<Utc>,
}

impl Unsent {
    pub(super) fn retry_at(&self) -> DateTime<Utc> {
        self.retry_at
    }
}

impl<S: ScheduleStore, P: Publish> Scheduler<S, P> {
    /// Takes over what another beat has recorded and not sent; it may have sent what this one had not.
    pub(super) async fn take_over_unsent(&mut self, now: DateTime<Utc>) -> Result<(), StoreError> {
        self.unsent.clear();
        for run in self.store.pending().await? {
            if !self.sent.iter().any(|sent| sent.id == run.id) {
                self.unsent.push(Unsent { run, before: None, attempts: 0, retry_at: now });
            }
        }
        self.unsent.sort_by_key(|unsent| unsent.run.run_at);
        Ok(())
    }

    /// Keeps the runs of a change until they are sent. Of an entry that does not catch up only the latest run is kept.
    pub(super) async fn keep_unsent(
        &mut self,
        found: &Found,
        change: &Change,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let catches_up = matches!(change.entry.policy.missed, MissedRuns::All(_));
        if !catches_up && !change.runs.is_empty() {
            let name = &change.entry.name;
            let (earlier, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.unsent).into_iter().partition(|unsent| unsent.run.entry == *name);
            self.unsent = rest;
            for Unsent { run, .. } in earlier {
                warn!(
                    "Scheduler: {name} is due again; its run of {:.3} was not sent and is dropped",
                    run.run_at
                );
                self.store.sent(&run).await?;
            }
        }
        for run in &change.runs {
            let before = Some((found.clone(), change.next));
            self.unsent.push(Unsent { run: run.clone(), before, attempts: 0, retry_at: now });
        }
        Ok(())
    }

    /// Sends recorded runs whose time has come, and strikes off what was sent.
    pub(super) async fn send_unsent(&mut self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut hopeless = Vec::new();
        let mut rest = Vec::new();
        let mut is_silent = false;
        for mut unsent in std::mem::take(&mut self.unsent) {
            // Where the broker does not answer, one run has waited for it, and the others are tried at the next tick.
            if unsent.retry_at > now || is_silent {
                rest.push(unsent);
                continue;
            }
            let published = tokio::time::timeout(PUBLISH_TIMEOUT, self.publisher.publish(&unsent.run)).await;
            let failure = match published {
                Ok(Ok(())) => {
                    tell_sent(&unsent.run);
                    self.sent.push(unsent.run);
                    continue;
                }
                Ok(Err(failure)) if failure.is_permanent() => {
                    hopeless.push((unsent, failure));
                    continue;
                }
                Ok(Err(failure)) => failure.to_string(),
                Err(_) => {
                    is_silent = true;
                    format!("no answer within {} s", PUBLISH_TIMEOUT.as_secs())
                }
            };
            self.put_off(&mut unsent, &failure, now);
            rest.push(unsent);
        }
        self.unsent = rest;
        for (unsent, failure) in hopeless {
            self.give_up(unsent, &failure, now).await?;
        }
        while let Some(run) = self.sent.last() {
            self.store.sent(run).await?;
            self.sent.pop();
        }
        Ok(())
    }

    fn put_off(&mut self, unsent: &mut Unsent, failure: &str, now: DateTime<Utc>) {
        unsent.attempts += 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << unsent.attempts.min(10)).min(LONGEST_PAUSE);
        unsent.retry_at = now + pause;
        self.health.refused(&unsent.run.entry);
        if unsent.attempts == 1 {
            let Run { id, entry, task, .. } = &unsent.run;
            let task_id = id.to_string();
            error!(task_id = task_id.as_str(), task_name = task.as_str();
                "Scheduler: cannot send {entry} ({task}), trying again until it works: {failure}");
        }
    }

    /// Takes back the record of a run that can never be sent: the entry is due again as soon as it is corrected.
    async fn give_up(
        &mut self,
        unsent: Unsent,
        failure: &PublishError,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.store.sent(&unsent.run).await?;
        match unsent.before {
            Some((found, next)) => self.refused(found, next, failure, now).await.map(drop),
            None => {
                let Run { entry, task, .. } = &unsent.run;
                info!("Scheduler: the run of {entry} ({task}) that was left over is dropped: {failure}");
                Ok(())
            }
        }
    }
}
