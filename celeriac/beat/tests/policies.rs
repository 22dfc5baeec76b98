//! What becomes of missed, overlapping and failing runs, and the bounds of an entry.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use celeriac_beat::schedule::{Interval, Schedule, Terms};
use celeriac_beat::{
    Calendar, Entry, FileStore, Listed, MissedRuns, Outcome, Overlap, Policy, ScheduleStore, Scheduler,
    Verdict,
};
use chrono::{DateTime, TimeDelta, Utc};
use compat_tests::secs;
use serde_json::json;
use support::{Broker, after, every, start};

/// A beat on a file, under one policy.
struct Stage {
    folder: tempfile::TempDir,
    broker: Broker,
    beat: Scheduler<FileStore, Broker>,
    entry: Entry,
}

impl Stage {
    async fn new(entry: Entry) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::default();
        let store = FileStore::new(folder.path().join("schedule.json"));
        let mut beat = Scheduler::new(store, broker.clone(), vec![entry.clone()], Terms::default());
        beat.tick(start()).await.unwrap();
        Self { folder, broker, beat, entry }
    }

    async fn of(policy: Policy) -> Self {
        Self::new(every(60).policy(policy)).await
    }

    async fn tick(&mut self, seconds: f64) -> Vec<DateTime<Utc>> {
        let before = self.broker.taken().len();
        self.beat.tick(after(seconds)).await.unwrap();
        self.broker.taken()[before..].iter().map(|run| run.run_at).collect()
    }

    async fn listed(&self) -> Listed {
        let mut store = FileStore::new(self.folder.path().join("schedule.json"));
        store.configure(std::sync::Arc::new(celeriac_beat::Configured::new([self.entry.clone()])));
        store.list().await.unwrap().remove(0)
    }
}

#[tokio::test]
async fn of_missed_runs_the_last_none_or_all_are_sent() {
    let minutes =
        |minutes: &[i32]| -> Vec<_> { minutes.iter().map(|at| after(f64::from(*at) * 60.0)).collect() };
    let window = Some(Duration::from_secs(149));
    for (missed, missed_window, sent, lost) in [
        (MissedRuns::Last, None, &[10][..], 9),
        (MissedRuns::Skip, None, &[], 10),
        (MissedRuns::All(100), None, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0),
        (MissedRuns::All(3), None, &[8, 9, 10], 7),
        (MissedRuns::All(100), window, &[9, 10], 8),
        (MissedRuns::Last, Some(Duration::from_secs(20)), &[], 10),
    ] {
        let mut stage = Stage::of(Policy { missed, missed_window, ..Policy::default() }).await;
        assert_eq!(stage.tick(630.0).await, minutes(sent), "{missed:?} {missed_window:?}");
        assert_eq!(stage.listed().await.history.missed, lost, "{missed:?} {missed_window:?}");
        // The usual rhythm from then on.
        assert!(stage.tick(640.0).await.is_empty());
        assert_eq!(stage.tick(690.0).await, [after(690.0)]);
    }
}

#[test]
fn the_runs_of_a_long_absence_are_counted_without_walking_through_them() {
    let began = std::time::Instant::now();
    let minutely = |text: &str| Schedule::from_json(&json!(text)).unwrap();
    let second = Schedule::Interval(Interval { every: secs(1), relative: true });
    for (schedule, slot, last, count) in [
        (second, "2026-05-31T10:00:00Z", "2026-05-31T09:59:59Z", 30 * 86_400),
        (minutely("* * * * *"), "2026-05-31T10:00:00Z", "2026-05-31T09:59:00Z", 30 * 1440),
        (minutely("*/10 * * * *"), "2026-05-31T10:00:00Z", "2026-05-31T09:50:00Z", 30 * 144),
    ] {
        let mut entry = Entry::new("entry", "proj.tick", schedule);
        entry.last_run_at = Some(start());
        for _ in 0..20 {
            let now = start() + TimeDelta::days(30) + TimeDelta::milliseconds(300);
            let Verdict::Due(plan) = entry.verdict(now, &Terms::default()) else { panic!("{entry:?}") };
            assert_eq!(plan.slots, [slot.parse::<DateTime<Utc>>().unwrap()]);
            let missed = plan.missed.unwrap();
            assert_eq!((missed.count, missed.last), (count - 1, last.parse().unwrap()));
        }
    }
    // Where they are not evenly spaced, the last one is exact and the count nearly so.
    let mut entry = Entry::new("entry", "proj.tick", minutely("0 9,17 * * mon-fri"));
    entry.last_run_at = Some("2016-01-01T00:00:00Z".parse().unwrap());
    let Verdict::Due(plan) = entry.verdict(start(), &Terms::default()) else { panic!("{entry:?}") };
    assert_eq!(plan.slots, ["2026-05-01T09:00:00Z".parse::<DateTime<Utc>>().unwrap()]);
    let (missed, all) = (plan.missed.unwrap().count, 2 * 2695);
    assert!(missed.abs_diff(all) < 20, "{missed} of {all}");
    // One by one they take minutes.
    assert!(began.elapsed() < secs(30), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_punctual_run_is_not_a_missed_one() {
    let mut stage = Stage::of(Policy { missed: MissedRuns::Skip, ..Policy::default() }).await;
    assert_eq!(stage.tick(62.0).await.len(), 1);
    assert_eq!(stage.listed().await.history.missed, 0);
}

#[tokio::test]
async fn a_run_that_would_overlap_is_skipped_or_waits() {
    let mut stage = Stage::of(Policy { overlap: Overlap::Skip, ..Policy::default() }).await;
    assert_eq!(stage.tick(60.0).await.len(), 1);
    let first = stage.broker.taken()[0].id;
    stage.broker.ends(first, Outcome::Running);
    assert!(stage.tick(120.0).await.is_empty());
    assert_eq!(stage.listed().await.history.skipped, 1);
    stage.broker.ends(first, Outcome::Success);
    assert_eq!(stage.tick(180.0).await.len(), 1);

    let mut stage = Stage::of(Policy { overlap: Overlap::BufferOne, ..Policy::default() }).await;
    assert_eq!(stage.tick(60.0).await.len(), 1);
    let first = stage.broker.taken()[0].id;
    stage.broker.ends(first, Outcome::Running);
    assert!(stage.tick(120.0).await.is_empty());
    assert!(stage.tick(121.0).await.is_empty());
    stage.broker.ends(first, Outcome::Failure);
    assert_eq!(stage.tick(125.0).await, [after(120.0)]);
    assert!(stage.tick(126.0).await.is_empty());
}

#[tokio::test]
async fn a_run_of_which_nothing_is_known_blocks_no_longer_than_the_timeout() {
    let policy = Policy { overlap: Overlap::Skip, overlap_timeout: Some(secs(150)), ..Policy::default() };
    let mut stage = Stage::of(policy).await;
    assert_eq!(stage.tick(60.0).await.len(), 1);
    assert!(stage.tick(120.0).await.is_empty());
    assert!(stage.tick(180.0).await.is_empty());
    assert_eq!(stage.tick(240.0).await.len(), 1);
}

#[tokio::test]
async fn an_entry_is_paused_after_failures_in_a_row() {
    let mut stage = Stage::of(Policy { pause_after_failures: Some(2), ..Policy::default() }).await;
    for (minute, outcome) in
        [(1, Outcome::Failure), (2, Outcome::Success), (3, Outcome::Failure), (4, Outcome::Failure)]
    {
        assert_eq!(stage.tick(f64::from(minute) * 60.0).await.len(), 1, "minute {minute}");
        let last = stage.broker.taken().last().unwrap().id;
        stage.broker.ends(last, outcome);
    }
    assert!(stage.tick(300.0).await.is_empty());
    assert!(stage.tick(400.0).await.is_empty());
    let listed = stage.listed().await;
    assert!(!listed.entry.enabled);
    assert_eq!(listed.history.failures, 2);
}

#[tokio::test]
async fn an_entry_runs_within_its_bounds() {
    let policy = Policy {
        start: Some(after(100.0)),
        end: Some(after(300.0)),
        total_runs: Some(3),
        ..Policy::default()
    };
    let mut stage = Stage::of(policy).await;
    assert!(stage.tick(60.0).await.is_empty());
    assert_eq!(stage.tick(100.0).await, [after(100.0)]);
    assert_eq!(stage.tick(160.0).await.len(), 1);
    assert_eq!(stage.tick(220.0).await.len(), 1);
    assert!(stage.tick(280.0).await.is_empty(), "it has had its three runs");
    let mut stage = Stage::of(Policy { end: Some(after(100.0)), ..Policy::default() }).await;
    assert_eq!(stage.tick(60.0).await.len(), 1);
    assert!(stage.tick(120.0).await.is_empty());
}

#[test]
fn excluded_days_are_passed_over_and_jitter_is_always_the_same() {
    let crontab = json!({"task": "t", "schedule": "0 9 * * *", "timezone": "Europe/Warsaw",
                         "exclude": ["sat", "sun", "12-25", "2026-12-28/2026-12-30"]});
    let entry = Entry::from_json("daily", &crontab).unwrap();
    let from = "2026-12-24T12:00:00Z".parse().unwrap();
    let entry = Entry { last_run_at: Some(from), ..entry };
    let next: Vec<String> =
        entry.preview(from, &Terms::default(), 3).iter().map(|slot| slot.to_rfc3339()).collect();
    assert_eq!(next, ["2026-12-31T08:00:00+00:00", "2027-01-01T08:00:00+00:00", "2027-01-04T08:00:00+00:00"]);
    let jittered = Entry { policy: Policy { jitter: secs(600), ..entry.policy.clone() }, ..entry.clone() };
    let late = jittered.preview(from, &Terms::default(), 3);
    assert_eq!(late, jittered.preview(from, &Terms::default(), 3));
    for (late, slot) in late.iter().zip(entry.preview(from, &Terms::default(), 3)) {
        assert!(*late >= slot && *late < slot + chrono::TimeDelta::seconds(600), "{late} {slot}");
    }
    assert!(Calendar::new(["someday"]).is_err());
    let all =
        Entry::from_json("x", &json!({"task": "t", "schedule": 60, "exclude": ["2026-01-01/2026-12-31"]}));
    let all = Entry { last_run_at: Some(from), ..all.unwrap() };
    assert_eq!(all.preview(from, &Terms::default(), 1)[0].to_rfc3339(), "2027-01-01T00:00:00+00:00");
}

#[tokio::test]
async fn what_can_never_be_sent_is_named_once_and_sent_as_soon_as_it_is_corrected() {
    let mut stage = Stage::of(Policy::default()).await;
    stage.broker.refuses(true);
    assert!(stage.tick(60.0).await.is_empty());
    assert!(stage.tick(120.0).await.is_empty());
    let listed = stage.listed().await;
    assert_eq!(listed.history.trouble.as_deref(), Some("option priority is high"));
    assert_eq!(listed.history.refused, 2);
    assert_eq!((listed.entry.total_run_count, listed.entry.last_run_at), (0, Some(start())));
    stage.broker.refuses(false);
    let corrected = every(60).option("priority", 3);
    stage.beat.reconfigure(celeriac_beat::Configured::new([corrected.clone()]));
    assert_eq!(stage.tick(125.0).await.len(), 1);
    assert_eq!(stage.broker.taken()[0].options, corrected.options);
    assert_eq!(stage.listed().await.history.trouble, None);
}

#[test]
fn every_wrong_entry_of_a_schedule_is_named() {
    let schedule = json!({
        "a": {"task": "t", "schedule": "61 * * * *"},
        "b": {"schedule": 5},
        "good": {"task": "t", "schedule": 5},
        "c": {"task": "t", "schedule": 5, "overlap": "maybe"},
        "d": {"task": "t", "schedule": 5, "prority": 3},
        "e": {"task": "t", "schedule": 5, "exclude": ["someday"]},
    });
    let errors = Entry::from_settings(schedule.as_object().unwrap()).unwrap_err();
    let text = errors.to_string();
    assert_eq!(text.lines().count(), 5, "{text}");
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(text.matches(&format!("entry \"{name}\"")).count(), 1, "{text}");
    }
}

#[test]
fn entries_survive_json() {
    let value = json!({
        "name": "all", "task": "t", "args": [1], "kwargs": {"a": 2}, "options": {"queue": "q"},
        "schedule": {"__type__": "interval", "every": 60.0, "relative": true}, "enabled": false,
        "timezone": "Europe/Warsaw", "start": "2026-01-01T00:00:00+00:00", "end": "2027-01-01T00:00:00+00:00",
        "total_runs": 5, "jitter": 2.5, "exclude": ["sat"], "missed_limit": 7, "missed_window": 90.0,
        "overlap": "buffer_one", "overlap_timeout": 30.0, "pause_after_failures": 3,
    });
    assert_eq!(Entry::from_json("all", &value).unwrap().to_json(), value);
}
