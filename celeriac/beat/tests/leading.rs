//! What may happen to the schedule of a beat that leads: entries vanish, others edit them, clocks are put back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use celeriac_beat::schedule::{Schedule, Terms};
use celeriac_beat::{Configured, Entry, FileStore, RedisOptions, ScheduleStore, Scheduler, Standing};
use chrono::{DateTime, TimeDelta, Utc};
use compat_tests::{RedisServer, secs};
use redis::Commands;
use serde_json::json;
use support::{Broker, after, every, redis_store, redis_store_with, start};

#[tokio::test]
async fn a_beat_that_opens_a_large_schedule_keeps_its_lock_meanwhile() {
    let server = RedisServer::start();
    let options = RedisOptions { lock_timeout: secs(1), ..RedisOptions::default() };
    let mut store = redis_store_with(&server, options.clone());
    let entries = (0..20_000).map(|number| Entry { name: format!("e{number}"), ..every(3600) });
    store.configure(std::sync::Arc::new(Configured::new(entries)));
    assert_eq!(store.lead(start()).await.unwrap(), Standing::Elected);
    let began = std::time::Instant::now();
    while began.elapsed() <= options.lock_timeout * 2 {
        store.open(start(), &Terms::default()).await.unwrap();
    }
    assert_eq!(store.lead(start()).await.unwrap(), Standing::Leader);
}

#[tokio::test]
async fn entries_that_vanish_while_it_leads_are_written_anew_and_run() {
    let server = RedisServer::start();
    let ways: [fn(&mut redis::Connection); 5] = [
        |redis| redis::cmd("FLUSHALL").exec(redis).unwrap(),
        |redis| redis.del::<_, ()>("redbeat:every-2").unwrap(),
        |redis| redis.del::<_, ()>("redbeat::schedule").unwrap(),
        |redis| redis.del::<_, ()>("redbeat::statics").unwrap(),
        // As a RedBeat does that has another configuration.
        |redis| {
            redis.zrem::<_, _, ()>("redbeat::schedule", "redbeat:every-2").unwrap();
            redis.del::<_, ()>("redbeat:every-2").unwrap();
            redis.srem::<_, _, ()>("redbeat::statics", "every-2").unwrap();
        },
    ];
    for (number, vanish) in ways.into_iter().enumerate() {
        redis::cmd("FLUSHALL").exec(&mut server.connection()).unwrap();
        let broker = Broker::default();
        let mut beat = Scheduler::new(redis_store(&server), broker.clone(), vec![every(2)], Terms::default());
        beat.tick(start()).await.unwrap();
        vanish(&mut server.connection());
        ticks(&mut beat, after(1.0), || !broker.taken().is_empty()).await;
        assert_eq!(broker.names()[0], "every-2", "way {number}");
        let redis = &mut server.connection();
        ticks(&mut beat, after(100.0), || redis.sismember("redbeat::statics", "every-2").unwrap()).await;
        assert!(redis.exists::<_, bool>("redbeat:every-2").unwrap());
        beat.stop().await.unwrap();
    }
}

#[tokio::test]
async fn an_entry_that_was_deleted_on_purpose_stays_deleted() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let broker = Broker::default();
    let entries = vec![every(2), every(3)];
    let mut beat = Scheduler::new(redis_store(&server), broker.clone(), entries.clone(), Terms::default());
    beat.tick(start()).await.unwrap();
    // RedBeat's `delete`.
    redis.zrem::<_, _, ()>("redbeat::schedule", "redbeat:every-2").unwrap();
    redis.del::<_, ()>("redbeat:every-2").unwrap();
    ticks(&mut beat, after(1.0), || broker.taken().len() >= 3).await;
    beat.stop().await.unwrap();
    let mut next = Scheduler::new(redis_store(&server), broker.clone(), entries, Terms::default());
    let before = broker.taken().len();
    ticks(&mut next, after(100.0), || broker.taken().len() >= before + 2).await;
    assert!(broker.names().iter().all(|name| name == "every-3"), "{:?}", broker.names());
}

#[tokio::test]
async fn whoever_switched_an_entry_last_says_whether_it_is_enabled() {
    let server = RedisServer::start();
    let off = Entry { enabled: false, ..every(2) };
    let enabled = async |entry: &Entry| {
        let mut beat =
            Scheduler::new(redis_store(&server), Broker::default(), vec![entry.clone()], Terms::default());
        beat.tick(start()).await.unwrap();
        beat.stop().await.unwrap();
        redis_store(&server).list().await.unwrap()[0].entry.enabled
    };
    assert!(enabled(&every(2)).await);
    assert!(!enabled(&off).await);
    assert!(enabled(&every(2)).await, "the configuration has switched it on again");
    assert!(redis_store(&server).enable("every-2", false).await.unwrap());
    assert!(!enabled(&every(2)).await, "an operator has switched it off, the configuration has not changed");
    assert!(!enabled(&off).await);
    assert!(redis_store(&server).enable("every-2", true).await.unwrap());
    assert!(enabled(&off).await, "an operator has switched it on");
    assert!(!redis_store(&server).enable("nobody", true).await.unwrap());
}

#[tokio::test]
async fn definitions_that_are_edited_or_saved_again_take_effect_at_once() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let broker = Broker::default();
    let mut beat = Scheduler::new(redis_store(&server), broker.clone(), vec![], Terms::default());
    beat.tick(start()).await.unwrap();
    let put = |redis: &mut redis::Connection, entry: &Entry, score: f64| {
        redis.hset::<_, _, _, ()>("redbeat:job", "definition", entry.definition().to_string()).unwrap();
        redis.zadd::<_, _, _, ()>("redbeat::schedule", "redbeat:job", score).unwrap();
    };
    let job = |seconds| Entry::new("job", "proj.job", Schedule::every(secs(seconds)));
    put(&mut redis, &job(8), after(0.0).timestamp() as f64);
    beat.tick(after(0.1)).await.unwrap();
    assert_eq!(broker.taken().len(), 1);
    // RedBeat's `save` of an existing entry puts it off by a whole interval.
    put(&mut redis, &job(8), after(13.0).timestamp() as f64);
    ticks(&mut beat, after(5.0), || broker.taken().len() == 2).await;
    assert!(broker.taken()[1].run_at <= after(9.0), "{}", broker.taken()[1].run_at);
    // HSET alone leaves the score where it is.
    redis.hset::<_, _, _, ()>("redbeat:job", "definition", job(3600).definition().to_string()).unwrap();
    redis.zadd::<_, _, _, ()>("redbeat::schedule", "redbeat:job", after(3600.0).timestamp() as f64).unwrap();
    redis.hset::<_, _, _, ()>("redbeat:job", "definition", job(1).definition().to_string()).unwrap();
    ticks(&mut beat, after(30.0), || broker.taken().len() == 3).await;
}

#[tokio::test]
async fn a_clock_that_is_put_back_silences_nobody() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let file = || FileStore::new(folder.path().join("schedule.json"));
    put_back(|| redis_store(&server)).await;
    put_back(file).await;
}

async fn put_back<S: ScheduleStore>(store: impl Fn() -> S) {
    let broker = Broker::default();
    let mut beat = Scheduler::new(store(), broker.clone(), vec![every(2)], Terms::default());
    beat.tick(start()).await.unwrap();
    beat.tick(after(3600.0)).await.unwrap();
    assert_eq!(broker.taken().len(), 1);
    // An hour back, while it leads.
    beat.tick(after(4.0)).await.unwrap();
    beat.tick(after(6.1)).await.unwrap();
    assert_eq!(broker.taken().len(), 2);
    // And over a restart.
    beat.tick(after(7200.0)).await.unwrap();
    beat.stop().await.unwrap();
    drop(beat);
    let mut beat = Scheduler::new(store(), broker.clone(), vec![every(2)], Terms::default());
    beat.tick(after(10.0)).await.unwrap();
    let before = broker.taken().len();
    beat.tick(after(12.1)).await.unwrap();
    assert_eq!(broker.taken().len(), before + 1);
}

#[tokio::test]
async fn two_configurations_under_one_prefix_are_told_of_and_none_is_silenced() {
    let server = RedisServer::start();
    let broker = Broker::default();
    let mut ours = Scheduler::new(redis_store(&server), broker.clone(), vec![every(2)], Terms::default());
    ours.tick(start()).await.unwrap();
    let mut redis = server.connection();
    redis.sadd::<_, _, ()>("redbeat::statics", "theirs").unwrap();
    let definition = json!({"name": "theirs", "task": "t", "schedule": {"__type__": "interval", "every": 2, "relative": false}});
    redis.hset::<_, _, _, ()>("redbeat:theirs", "definition", definition.to_string()).unwrap();
    redis.zadd::<_, _, _, ()>("redbeat::schedule", "redbeat:theirs", 1).unwrap();
    ticks(&mut ours, after(1.0), || {
        let names = broker.names();
        names.contains(&"every-2".to_owned()) && names.contains(&"theirs".to_owned())
    })
    .await;
}

/// Ticks, a tenth of a second of the schedule's time apart, until something is so; heartbeats take real time.
async fn ticks<S: ScheduleStore>(
    beat: &mut Scheduler<S, Broker>,
    mut now: DateTime<Utc>,
    mut is_so: impl FnMut() -> bool,
) {
    let deadline = std::time::Instant::now() + secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "it did not come to be so");
        beat.tick(now).await.unwrap();
        now += TimeDelta::milliseconds(100);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
