//! The counters: kept with what they count, whatever is away meanwhile.

mod support;

use chrono::Utc;
use companion::{
    metrics::Snapshot,
    reminders::{self, Delivery, deliver},
};
use compat_tests::{eventually_async, secs};
use support::{On, Setup, ago};

on_both! {
    nothing_is_lost_while_redis_is_away
    counts_of_an_earlier_release_are_taken_over_once
    a_reminder_that_an_earlier_release_sends_is_counted_too
    the_uptime_of_a_worker_that_is_gone_is_zero
    many_events_are_summed_up_without_losing_any
}

async fn counted(setup: &Setup) -> Snapshot {
    setup.companion.metrics.snapshot().await.expect("counters")
}

fn field(setup: &Setup, name: &str) -> Option<String> {
    redis::cmd("HGET").arg("metrics:counters").arg(name).query(&mut setup.redis.connection()).expect("redis")
}

async fn nothing_is_lost_while_redis_is_away(on: On) {
    let mut setup = Setup::new(on).await;
    setup.redis.kill();
    let user = setup.demo_user().await;
    let (sent, canceled) = (setup.reminder("stretch", ago(45)).await, setup.reminder("rest", ago(45)).await);
    assert_eq!(deliver(&setup.companion, sent, Utc::now(), 0).await.expect("deliver"), Delivery::Sent);
    reminders::cancel(&setup.companion, &user, canceled).await.expect("cancel");
    let check = |counted: Snapshot| {
        let names = [
            "reminder_scheduled",
            "reminder_sent",
            "reminder_canceled",
            "reminder_error",
            "reminder_latency_count",
        ];
        assert_eq!(names.map(|name| counted.counters[name]), [2.0, 1.0, 1.0, 0.0, 1.0]);
        assert!((45.0..120.0).contains(&counted.counters["reminder_latency_sum"]), "{counted:?}");
        let histogram: Vec<f64> = counted.histogram.iter().map(|(_, count)| *count).collect();
        assert_eq!(histogram, [0.0, 1.0, 1.0, 1.0, 1.0, 1.0], "sent between 30 s and a minute late");
    };
    check(counted(&setup).await);
    setup.redis.restart();
    eventually_async("the copy in Redis is up to date", secs(20), async || {
        counted(&setup).await;
        field(&setup, "reminder_sent").as_deref() == Some("1")
    })
    .await;
    check(counted(&setup).await);
    assert_eq!(field(&setup, "reminder_latency_bucket:le_1m").as_deref(), Some("1"), "an integer");
}

async fn counts_of_an_earlier_release_are_taken_over_once(on: On) {
    let setup = Setup::new(on).await;
    let () = redis::pipe()
        .hset("metrics:counters", "reminder_sent", 1000)
        .hset("metrics:counters", "reminder_latency_bucket:le_30s", 900)
        .hset("metrics:counters", "something_else", 7)
        .ignore()
        .query(&mut setup.redis.connection())
        .expect("redis");
    let id = setup.reminder("stretch", ago(1)).await;
    for round in 0..3 {
        let counted = counted(&setup).await;
        assert_eq!(counted.counters["reminder_sent"], 1000.0, "round {round}");
        assert_eq!(counted.histogram[0], ("le_30s", 900.0));
        assert_eq!(counted.counters["something_else"], 7.0);
    }
    assert_eq!(deliver(&setup.companion, id, Utc::now(), 0).await.expect("deliver"), Delivery::Sent);
    assert_eq!(counted(&setup).await.counters["reminder_sent"], 1001.0);
    assert_eq!(field(&setup, "reminder_sent").as_deref(), Some("1001"));
    // A Redis that lost everything gets it back.
    let () = redis::cmd("FLUSHALL").query(&mut setup.redis.connection()).expect("redis");
    assert_eq!(counted(&setup).await.counters["reminder_sent"], 1001.0);
    assert_eq!(field(&setup, "reminder_sent").as_deref(), Some("1001"));
}

async fn a_reminder_that_an_earlier_release_sends_is_counted_too(on: On) {
    let setup = Setup::new(on).await;
    let Some(database) = &setup.database else { return };
    setup.reminder("stretch", ago(100)).await;
    // As it does, without knowing of counts.
    database.execute("UPDATE reminders SET status = 'sent', sent_at = now()");
    database.execute("UPDATE reminders SET status = 'sent'");
    let counted = counted(&setup).await;
    assert_eq!((counted.counters["reminder_sent"], counted.counters["reminder_scheduled"]), (1.0, 1.0));
    assert_eq!(counted.histogram[1..3], [("le_1m", 0.0), ("le_2m", 1.0)]);
}

async fn the_uptime_of_a_worker_that_is_gone_is_zero(on: On) {
    let setup = Setup::new(on).await;
    setup.companion.metrics.tend(1790).await;
    assert_eq!(counted(&setup).await.counters["worker_uptime_seconds"], 1790.0);
    let mut redis = setup.redis.connection();
    let expires: i64 =
        redis::cmd("TTL").arg("metrics:worker_uptime_seconds").query(&mut redis).expect("redis");
    assert!((1..=30).contains(&expires), "{expires}");
    let () = redis::cmd("DEL").arg("metrics:worker_uptime_seconds").query(&mut redis).expect("redis");
    assert_eq!(counted(&setup).await.counters["worker_uptime_seconds"], 0.0);
}

async fn many_events_are_summed_up_without_losing_any(on: On) {
    let setup = Setup::new(on).await;
    for _ in 0..50 {
        setup.reminder("stretch", ago(1)).await;
    }
    let readers = (0..8).map(|_| {
        let metrics = setup.another(&[]).metrics;
        tokio::spawn(
            async move { metrics.snapshot().await.expect("counters").counters["reminder_scheduled"] },
        )
    });
    for reader in readers.collect::<Vec<_>>() {
        assert_eq!(reader.await.expect("no panic"), 50.0);
    }
    assert_eq!(counted(&setup).await.counters["reminder_scheduled"], 50.0);
}
