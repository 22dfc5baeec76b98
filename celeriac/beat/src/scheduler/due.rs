//! What becomes of the entries that are looked at.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use log::{error, info, warn};

use super::Scheduler;
use crate::entry::{Entry, Missed, Outcome, Overlap, Plan, Verdict};
use crate::publish::{Publish, PublishError};
use crate::store::{Change, Found, ScheduleStore, Settled, StoreError};

/// Time after which a disabled entry is looked at again, as in RedBeat.
const DISABLED_LOOK: TimeDelta = TimeDelta::seconds(5);

/// Time after which it is looked again whether the last run of an entry has ended.
const BUFFERED_LOOK: TimeDelta = TimeDelta::seconds(1);

/// The time for which a run of which nothing is known counts as not ended.
const OVERLAP_TIMEOUT: Duration = Duration::from_secs(3600);

/// Half the pause before an entry that could not be sent is tried again; it doubles each time.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause before an entry that could not be sent is tried again.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A change with what it is made of, should it be refused.
struct Due {
    found: Found,
    change: Change,
    missed: Option<Missed>,
}

impl<S: ScheduleStore, P: Publish> Scheduler<S, P> {
    /// Sends the entries that are due. Returns when to look next at the earliest of them, or nothing if this beat does not
    /// lead any more.
    pub(super) async fn visit(
        &mut self,
        entries: Vec<Found>,
        now: DateTime<Utc>,
    ) -> Result<Option<Option<DateTime<Utc>>>, StoreError> {
        let mut looks: Vec<(Entry, Option<DateTime<Utc>>)> = Vec::new();
        let mut due = Vec::new();
        for found in entries {
            if !found.entry.enabled {
                looks.push((found.entry, Some(now + DISABLED_LOOK)));
                continue;
            }
            // To ask how runs have ended may take its time.
            if !self.keeps_leading(now).await? {
                return Ok(None);
            }
            match self.judge(found, now).await? {
                Judged::Look(entry, next) => looks.push((*entry, next)),
                Judged::Due(one) => due.push(*one),
            }
        }
        let mut wake = looks.iter().filter_map(|(_, next)| *next).min();
        let looks: Vec<(&Entry, Option<DateTime<Utc>>)> =
            looks.iter().map(|(entry, next)| (entry, *next)).collect();
        self.store.reschedule(&looks).await?;
        // In parts, so that a beat that is told to end stops soon.
        for part in in_parts(due) {
            if self.stops.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            let changes: Vec<Change> = part.iter().map(|due| due.change.clone()).collect();
            let settled = self.store.settle(&changes).await?;
            for (due, settled) in part.into_iter().zip(settled) {
                let next = match settled {
                    Settled::Done => self.done(due, now).await?,
                    Settled::Gone => None,
                    Settled::Refused(refused) => {
                        self.refused(due.found, due.change.next, &refused, now).await?
                    }
                    Settled::NotLeader => {
                        self.leads = None;
                        return Ok(None);
                    }
                };
                wake = wake.into_iter().chain(next).min();
            }
            self.send_unsent(now).await?;
        }
        Ok(Some(wake))
    }

    /// Says what is to be done with an entry that is enabled.
    async fn judge(&mut self, mut found: Found, now: DateTime<Utc>) -> Result<Judged, StoreError> {
        if found.entry.last_run_at.is_some_and(|last| last > now) {
            // Of a clock that went ahead; its next run may be no further away than from now.
            found.entry.last_run_at = Some(now);
            let next = found.entry.next_look(now, &self.terms);
            let change =
                Change { entry: found.entry.clone(), history: found.history.clone(), runs: Vec::new(), next };
            return Ok(Judged::due(found, change, None));
        }
        if found.history.buffered.is_some() {
            return Ok(self.release_buffered(found, now).await);
        }
        match found.entry.verdict(now, &self.terms) {
            Verdict::Wait(next) => Ok(Judged::Look(Box::new(found.entry), Some(next))),
            Verdict::Over => Ok(Judged::Look(Box::new(found.entry), None)),
            Verdict::Due(plan) => self.plan(found, plan, now).await,
        }
    }

    async fn plan(&mut self, found: Found, plan: Plan, now: DateTime<Utc>) -> Result<Judged, StoreError> {
        let mut change = Change {
            entry: found.entry.clone(),
            history: found.history.clone(),
            runs: Vec::new(),
            next: plan.next,
        };
        change.entry.last_run_at = Some(now);
        change.history.missed += plan.missed.map_or(0, |missed| missed.count);
        if found.entry.policy.asks_for_results() && !found.history.runs.is_empty() {
            let has_ended = self.last_has_ended(&mut change, now).await;
            if self.pauses(&change) {
                self.store.enable(&change.entry.name, false).await?;
                change.entry = Entry { enabled: false, ..found.entry.clone() };
                change.next = Some(now + DISABLED_LOOK);
                return Ok(Judged::due(found, change, None));
            }
            if !has_ended && found.entry.policy.overlap != Overlap::Allow {
                put_off(&mut change, &plan, now);
                return Ok(Judged::due(found, change, plan.missed));
            }
        }
        for slot in plan.slots {
            send_at(&mut change, slot, now);
        }
        Ok(Judged::due(found, change, plan.missed))
    }

    /// Sends the run that waits for the last one to end, if it has ended.
    async fn release_buffered(&mut self, found: Found, now: DateTime<Utc>) -> Judged {
        let mut change = Change {
            entry: found.entry.clone(),
            history: found.history.clone(),
            runs: Vec::new(),
            next: None,
        };
        let has_ended = self.last_has_ended(&mut change, now).await;
        change.next = found.entry.preview(now, &self.terms, 1).first().copied();
        if !has_ended {
            let again = now + BUFFERED_LOOK;
            return Judged::Look(Box::new(found.entry), Some(again));
        }
        if let Some(slot) = change.history.buffered.take() {
            change.entry.last_run_at = Some(now);
            send_at(&mut change, slot, now);
        }
        Judged::due(found, change, None)
    }

    /// Whether the last run of an entry has ended, and how; failures in a row are counted.
    async fn last_has_ended(&mut self, change: &mut Change, now: DateTime<Utc>) -> bool {
        let timeout = change.entry.policy.overlap_timeout.unwrap_or(OVERLAP_TIMEOUT);
        let Some(last) = change.history.runs.first_mut() else { return true };
        if !matches!(last.outcome, Some(Outcome::Success | Outcome::Failure)) {
            let outcome = self.publisher.outcome(&last.id).await;
            last.outcome = Some(outcome);
            match outcome {
                Outcome::Success => change.history.failures = 0,
                Outcome::Failure => change.history.failures += 1,
                Outcome::Running | Outcome::Unknown => {}
            }
        }
        let age = Duration::from_millis(u64::try_from(now.timestamp_millis() - last.sent).unwrap_or(0));
        match last.outcome {
            Some(Outcome::Running) => false,
            Some(Outcome::Unknown) | None => age >= timeout,
            Some(Outcome::Success | Outcome::Failure) => true,
        }
    }

    /// Whether an entry is to be paused for its failures.
    fn pauses(&self, change: &Change) -> bool {
        let failures = change.history.failures;
        change.entry.policy.pause_after_failures.is_some_and(|most| failures >= u64::from(most.max(1)))
    }

    /// Tells of a change that is written, and sees to it that its runs are sent. Returns when to look at the entry next.
    async fn done(&mut self, due: Due, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError> {
        let Due { found, change, missed } = due;
        let name = &change.entry.name;
        if let Some(Missed { count, first, last }) = missed {
            let sent = change.runs.len();
            warn!(entry = name.as_str();
                "Scheduler: {count} runs of {name} were missed, from {first:.3} to {last:.3}; {sent} sent now");
        }
        if self.pauses(&change) {
            error!(entry = name.as_str();
                "Scheduler: {name} is paused: its last {} runs failed\nhint: celeriac beat resume {name}", change.history.failures);
        }
        if change.history.skipped > found.history.skipped {
            info!(entry = name.as_str(); "Scheduler: {name} is skipped: its last run has not ended");
        }
        if found.history.trouble.is_some() && !change.runs.is_empty() {
            info!(entry = name.as_str(); "Scheduler: {name} can be sent again");
        }
        self.attempts.remove(name);
        self.health.settled(&change, missed.map_or(0, |missed| missed.count), now);
        if self.store.sends() {
            change.runs.iter().for_each(tell_sent);
        } else {
            self.keep_unsent(&found, &change, now).await?;
        }
        Ok(change.next)
    }

    /// Counts an entry that cannot be sent, and tells of it once. Returns when to look at it next.
    pub(super) async fn refused(
        &mut self,
        found: Found,
        next: Option<DateTime<Utc>>,
        refused: &PublishError,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let Found { entry, mut history } = found;
        let reason = refused.to_string();
        self.health.refused(&entry.name);
        if !refused.is_permanent() {
            let attempts = self.attempts.entry(entry.name.clone()).or_default();
            *attempts += 1;
            let pause = FIRST_PAUSE.saturating_mul(1 << (*attempts).min(10)).min(LONGEST_PAUSE);
            if *attempts == 1 {
                error!(entry = entry.name.as_str();
                    "Scheduler: cannot send {} ({}), trying again until it works: {reason}", entry.name, entry.task);
            }
            let next = Some(now + pause);
            self.store.reschedule(&[(&entry, next)]).await?;
            return Ok(next);
        }
        if history.trouble.as_ref() != Some(&reason) {
            error!(entry = entry.name.as_str();
                "Scheduler: cannot send {} ({}): {reason}\nhint: it is sent as soon as the entry is corrected", entry.name, entry.task);
        }
        history.refused += 1;
        history.trouble = Some(reason);
        let change = Change { entry, history, runs: Vec::new(), next };
        self.store.settle(&[change]).await?;
        Ok(next)
    }
}

enum Judged {
    Look(Box<Entry>, Option<DateTime<Utc>>),
    Due(Box<Due>),
}

impl Judged {
    fn due(found: Found, change: Change, missed: Option<Missed>) -> Self {
        Judged::Due(Box::new(Due { found, change, missed }))
    }
}

/// Does not send a run that would overlap.
fn put_off(change: &mut Change, plan: &Plan, now: DateTime<Utc>) {
    if change.entry.policy.overlap == Overlap::BufferOne {
        change.history.buffered = plan.slots.last().copied();
        change.next = Some(now + BUFFERED_LOOK);
    } else {
        change.history.skipped += plan.slots.len() as u64;
    }
}

/// Adds the run of a slot.
fn send_at(change: &mut Change, slot: DateTime<Utc>, now: DateTime<Utc>) {
    let run = change.entry.run_at(slot);
    change.entry.total_run_count += 1;
    change.history.note(run.id, slot, now);
    change.history.trouble = None;
    change.runs.push(run);
    if change.entry.policy.total_runs.is_some_and(|runs| change.entry.total_run_count >= runs) {
        change.next = None;
    }
}

pub(super) fn tell_sent(run: &crate::entry::Run) {
    let task_id = run.id.to_string();
    info!(task_id = task_id.as_str(), task_name = run.task.as_str();
        "Scheduler: Sending due task {} ({})", run.entry, run.task);
}

/// The due entries in parts.
fn in_parts(due: Vec<Due>) -> impl Iterator<Item = Vec<Due>> {
    let mut due = due.into_iter();
    std::iter::from_fn(move || {
        let part: Vec<Due> = due.by_ref().take(100).collect();
        (!part.is_empty()).then_some(part)
    })
}
