//! The loop: what is sent, when, and that no run is lost or sent twice.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use celeriac_beat::schedule::{Crontab, Schedule, Terms};
use celeriac_beat::{Entry, FileStore, Overlap, Policy, Run, ScheduleStore, Scheduler};
use compat_tests::{RedisServer, secs};
use redis::Commands;
use serde_json::Value;
use support::{Broker, after, every, redis_store, start};
use tempfile::TempDir;

#[tokio::test]
async fn entries_are_sent_when_due_and_the_sleep_lasts_until_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::default();
    let mut beat = scheduler(file(&folder), &broker, &[every(2), every(3)]);
    assert_eq!(beat.tick(start()).await.unwrap(), Duration::from_millis(500));
    assert_eq!(beat.tick(after(1.5)).await.unwrap(), Duration::from_millis(500));
    assert_eq!(broker.names(), Vec::<String>::new());
    beat.tick(after(2.0)).await.unwrap();
    beat.tick(after(3.0)).await.unwrap();
    beat.tick(after(4.0)).await.unwrap();
    assert_eq!(broker.names(), ["every-2", "every-3", "every-2"]);
    // However many runs were missed, one is sent.
    beat.tick(after(100.0)).await.unwrap();
    assert_eq!(broker.taken().len(), 5);
    let ids: std::collections::HashSet<_> = broker.taken().into_iter().map(|run| run.id).collect();
    assert_eq!(ids.len(), 5);
}

#[tokio::test]
async fn a_restart_does_not_forget_when_an_entry_ran() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::default();
    let mut beat = scheduler(file(&folder), &broker, &[every(60)]);
    beat.tick(start()).await.unwrap();
    beat.tick(after(60.0)).await.unwrap();
    beat.stop().await.unwrap();
    let mut beat = scheduler(file(&folder), &broker, &[every(60)]);
    beat.tick(after(100.0)).await.unwrap();
    assert_eq!(broker.taken().len(), 1);
    beat.tick(after(120.0)).await.unwrap();
    assert_eq!(broker.taken().len(), 2);
    beat.stop().await.unwrap();
    // What became due while no beat ran is sent at once.
    let mut beat = scheduler(file(&folder), &broker, &[every(60)]);
    beat.tick(after(500.0)).await.unwrap();
    assert_eq!(broker.taken().len(), 3);
}

#[tokio::test]
async fn a_run_that_the_broker_does_not_take_is_sent_later_with_the_same_id() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::default();
    let mut beat = scheduler(file(&folder), &broker, &[every(60)]);
    beat.tick(start()).await.unwrap();
    broker.down(true);
    assert_eq!(beat.tick(after(60.0)).await.unwrap(), Duration::from_millis(500));
    let pending = pending(&folder);
    assert_eq!(pending.len(), 1);
    beat.tick(after(61.0)).await.unwrap();
    broker.down(false);
    assert_eq!(beat.tick(after(61.5)).await.unwrap(), Duration::from_millis(500));
    assert_eq!(broker.taken(), []);
    beat.tick(after(62.0)).await.unwrap();
    assert_eq!(broker.taken(), pending);
    assert_eq!(self::pending(&folder), []);
}

#[tokio::test]
async fn a_run_that_was_recorded_but_not_sent_is_sent_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::default();
    let mut beat = scheduler(file(&folder), &broker, &[every(60)]);
    beat.tick(start()).await.unwrap();
    broker.down(true);
    beat.tick(after(60.0)).await.unwrap();
    drop(beat);
    broker.down(false);
    let mut beat = scheduler(file(&folder), &broker, &[every(60)]);
    beat.tick(after(61.0)).await.unwrap();
    assert_eq!(broker.names(), ["every-60"]);
    beat.tick(after(90.0)).await.unwrap();
    assert_eq!(broker.names(), ["every-60"]);
}

#[tokio::test]
async fn a_long_outage_of_the_broker_leaves_one_run_for_each_entry() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::default();
    let mut beat = scheduler(file(&folder), &broker, &[every(60)]);
    beat.tick(start()).await.unwrap();
    broker.down(true);
    for minute in 1..=5 {
        beat.tick(after(f64::from(minute) * 60.0)).await.unwrap();
    }
    broker.down(false);
    beat.tick(after(320.0)).await.unwrap();
    assert_eq!(broker.taken().len(), 1);
}

#[tokio::test]
async fn a_tick_that_does_not_end_fails_both_probes_until_it_ends() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    let entry = every(1).policy(Policy { overlap: Overlap::Skip, ..Policy::default() });
    let scheduler = scheduler(file(&folder), &broker, &[entry]);
    let health = scheduler.health();
    assert_eq!((health.lives(), health.is_ready()), (Ok(()), Err("the store cannot be reached".to_owned())));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let beat = tokio::spawn(celeriac_beat::run(scheduler, async move { drop(stopped.await) }));
    let until = async |what: &str, is_so: &dyn Fn() -> bool| {
        let began = std::time::Instant::now();
        while !is_so() {
            assert!(began.elapsed() < compat_tests::secs(40), "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until("it runs", &|| !broker.taken().is_empty()).await;
    assert_eq!((health.lives(), health.is_ready()), (Ok(()), Ok(())));
    broker.hangs(true);
    until("the tick is overdue", &|| health.lives().is_err()).await;
    let reason = health.is_ready().unwrap_err();
    assert!(reason.contains("the next tick is overdue by 10"), "{reason}");
    broker.hangs(false);
    until("it lives again", &|| health.lives().is_ok() && health.is_ready().is_ok()).await;
    drop(stop);
    beat.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_missed_crontab_run_beyond_the_deadline_is_skipped() {
    let broker = Broker::default();
    let daily = Entry::new(
        "daily",
        "proj.daily",
        Schedule::Crontab(Box::new(Crontab::from_text("0 1 * * *").unwrap())),
    );
    for (deadline, sent) in [(None, 1), (Some(secs(3600)), 0), (Some(secs(36_000)), 1)] {
        let folder = tempfile::tempdir().unwrap();
        let before = broker.taken().len();
        let mut beat = scheduler(file(&folder), &broker, std::slice::from_ref(&daily));
        beat.tick(start()).await.unwrap();
        beat.stop().await.unwrap();
        let terms = Terms { cron_starting_deadline: deadline, ..Terms::default() };
        let mut beat = Scheduler::new(file(&folder), broker.clone(), vec![daily.clone()], terms);
        // Started at 10:00, down over the next day's 01:00, up again at 10:00.
        beat.tick(after(86_400.0)).await.unwrap();
        assert_eq!(broker.taken().len() - before, sent, "{deadline:?}");
    }
}

#[tokio::test]
async fn of_two_beats_one_sends_each_run_and_the_other_takes_over() {
    let server = RedisServer::start();
    let broker = Broker::default();
    let mut first = scheduler(redis_store(&server), &broker, &[every(10)]);
    let mut second = scheduler(redis_store(&server), &broker, &[every(10)]);
    first.tick(start()).await.unwrap();
    for step in 1..=5 {
        second.tick(after(f64::from(step) * 10.0)).await.unwrap();
        first.tick(after(f64::from(step) * 10.0)).await.unwrap();
    }
    assert_eq!(broker.taken().len(), 5);
    first.stop().await.unwrap();
    second.tick(after(60.0)).await.unwrap();
    first.tick(after(60.0)).await.unwrap();
    assert_eq!(broker.taken().len(), 6);
    // A beat whose lock was taken over while it stood still sends nothing.
    server.connection().set::<_, _, ()>("redbeat::lock", "another").unwrap();
    second.tick(after(70.0)).await.unwrap();
    assert_eq!(broker.taken().len(), 6);
}

#[tokio::test]
async fn entries_added_changed_and_removed_in_redis_while_beat_runs_are_heeded() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let broker = Broker::default();
    let mut beat = scheduler(redis_store(&server), &broker, &[]);
    beat.tick(start()).await.unwrap();

    let added = Entry::new("added", "proj.added", Schedule::every(secs(5)));
    redis.hset::<_, _, _, ()>("redbeat:added", "definition", added.definition().to_string()).unwrap();
    redis.zadd::<_, _, _, ()>("redbeat::schedule", "redbeat:added", start().timestamp()).unwrap();
    beat.tick(after(1.0)).await.unwrap();
    assert_eq!(broker.names(), ["added"]);

    let disabled = Entry { enabled: false, ..added };
    redis.hset::<_, _, _, ()>("redbeat:added", "definition", disabled.definition().to_string()).unwrap();
    beat.tick(after(6.0)).await.unwrap();
    assert_eq!(broker.names(), ["added"]);

    redis.del::<_, ()>("redbeat:added").unwrap();
    beat.tick(after(20.0)).await.unwrap();
    assert_eq!(broker.names(), ["added"]);
    assert_eq!(redis.zcard::<_, u64>("redbeat::schedule").unwrap(), 0);
}

#[tokio::test]
async fn nothing_is_lost_when_redis_goes_away_and_returns() {
    let mut server = RedisServer::options().append_only().start();
    let broker = Broker::default();
    let mut beat = scheduler(redis_store(&server), &broker, &[every(10)]);
    beat.tick(start()).await.unwrap();
    server.kill();
    for step in 1..=3 {
        assert!(beat.tick(after(f64::from(step) * 10.0)).await.unwrap_err().is_retryable());
    }
    server.restart();
    compat_tests::eventually_async("beat ticks again", secs(10), async || {
        beat.tick(after(31.0)).await.map(|_| true)
    })
    .await;
    assert_eq!(broker.taken().len(), 1);
    beat.tick(after(41.0)).await.unwrap();
    assert_eq!(broker.taken().len(), 2);
}

fn scheduler<S: ScheduleStore>(store: S, broker: &Broker, entries: &[Entry]) -> Scheduler<S, Broker> {
    Scheduler::new(store, broker.clone(), entries.to_vec(), Terms::default())
}

fn file(folder: &TempDir) -> FileStore {
    FileStore::new(folder.path().join("schedule.json"))
}

/// The pending runs in the schedule file and its journal.
fn pending(folder: &TempDir) -> Vec<Run> {
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    let run = |value: &Value| -> Run { serde_json::from_value(value.clone()).unwrap() };
    let content: Value = serde_json::from_str(&read("schedule.json")).unwrap();
    let mut pending: Vec<Run> = content["pending"].as_object().unwrap().values().map(run).collect();
    for line in read("schedule.json.journal").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        pending.extend(line["runs"].as_array().into_iter().flatten().map(run));
        pending.retain(|run| line["id"] != run.id.to_string());
    }
    pending
}
