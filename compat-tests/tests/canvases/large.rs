//! Chords of many parts.

use celeriac::canvas::{chain, chord};
use celeriac::message::Signature;
use compat_tests::{RedisServer, eventually, secs, size};

use crate::stage::{SOON, Stage};

fn header(task: &str, count: usize) -> impl Iterator<Item = Signature> {
    (0..count as i64).map(move |number| Signature::new(task).arg(number))
}

fn ask<T: redis::FromRedisValue>(redis: &RedisServer, command: &[&str]) -> T {
    redis::cmd(command[0]).arg(&command[1..]).query(&mut redis.connection()).unwrap()
}

/// `CHORD_PARTS=10000` for the full size: then a hundred kills of a worker, and fifty of all connections.
#[tokio::test]
async fn the_body_of_a_large_chord_runs_once_with_all_results_in_order_whatever_breaks_meanwhile() {
    let parts = size("CHORD_PARTS", 400);
    let (kills, reconnects) = ((parts / 100).max(3), (parts / 200).max(2));
    let stage = Stage::new();
    let client = stage.client();
    let result =
        client.apply(chord(header("canvas.part", parts), Signature::new("canvas.collect"))).await.unwrap();
    let _workers = (stage.worker(4), stage.stock_worker(2));
    let counted = || {
        let keys: Vec<String> = ask(&stage.redis, &["KEYS", "celery-taskset-meta-*.j"]);
        keys.first().map_or(0, |key| ask::<usize>(&stage.redis, &["ZCARD", key]))
    };
    for kill in 0..kills {
        // After the last kill enough is left to be done by the others.
        let goal = parts * 9 / 10 * kill / kills;
        let mut victim = stage.worker(4);
        victim.wait_for_line(" ready", SOON);
        eventually("some more parts are back", secs(120), || counted() > goal);
        victim.kill();
        if kill * reconnects % kills < reconnects {
            ask::<redis::Value>(&stage.redis, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        }
    }
    let found: Vec<i64> = result.get_as(secs(240)).await.unwrap();
    assert_eq!(found, (0..parts as i64).collect::<Vec<_>>());
    eventually("nothing is left to be run", secs(120), || {
        ask::<usize>(&stage.redis, &["LLEN", "celery"]) + ask::<usize>(&stage.redis, &["HLEN", "unacked"])
            == 0
    });
    assert_eq!(ask::<Vec<usize>>(&stage.redis, &["LRANGE", "bodies", "0", "-1"]), [parts]);
}

#[tokio::test]
async fn a_failing_part_of_a_large_chord_calls_its_errback_once() {
    let parts = size("CHORD_PARTS", 400);
    let stage = Stage::new();
    let client = stage.client();
    let body = Signature::new("canvas.collect").link_error(Signature::new("canvas.note"));
    let result = client.apply(chord(header("canvas.fail_part", parts), body)).await.unwrap();
    let _workers = (stage.worker(4), stage.stock_worker(2));
    let error = result.get(secs(240)).await.unwrap_err().to_string();
    assert!(error.contains("raised ValueError('unlucky')"), "{error}");
    eventually("the errback ran", SOON, || ask::<usize>(&stage.redis, &["LLEN", "errbacks"]) > 0);
    eventually("nothing is left to be run", SOON, || {
        ask::<usize>(&stage.redis, &["LLEN", "celery"]) + ask::<usize>(&stage.redis, &["HLEN", "unacked"])
            == 0
    });
    assert_eq!(ask::<usize>(&stage.redis, &["LLEN", "errbacks"]), 1);
    assert_eq!(ask::<usize>(&stage.redis, &["LLEN", "bodies"]), 0);
}

#[tokio::test]
async fn memory_grows_with_the_number_of_parts_and_not_with_its_square() {
    let mut grown = Vec::new();
    for parts in [500, 1000, 2000] {
        let stage = Stage::new();
        let client = stage.client();
        let inner = chord(header("canvas.part", parts), Signature::new("canvas.collect"));
        let around = chord([inner.clone(), inner], Signature::new("canvas.wrap").arg("all"));
        client.apply(around).await.unwrap();
        let keys: Vec<String> = ask(&stage.redis, &["KEYS", "*"]);
        let used = |key: &String| ask::<f64>(&stage.redis, &["MEMORY", "USAGE", key, "SAMPLES", "0"]);
        grown.push(keys.iter().map(used).sum::<f64>());
    }
    for pair in grown.windows(2) {
        assert!(pair[1] < 2.5 * pair[0], "twice the parts, twice the bytes: {grown:?}");
    }
}

/// `CHAIN_STEPS=100000` for the full size.
#[tokio::test]
async fn a_long_chain_is_gone_on_with_and_ends_when_a_step_fails() {
    let steps = size("CHAIN_STEPS", 20_000);
    let stage = Stage::new();
    let client = stage.client();
    let step = |task: &str| Signature::new(task).args(["x", "step"]).immutable(true);
    let long = |first: [&str; 3]| {
        let rest = std::iter::repeat_n("canvas.wrap", steps);
        chain(first.into_iter().chain(rest).map(step))
    };
    let whole = client.apply(long(["canvas.wrap", "canvas.wrap", "canvas.fail"])).await.unwrap();
    // A link is a chain that nobody has frozen yet.
    let linked = step("canvas.wrap").link(long(["canvas.fail"; 3]).task_id("end of the link"));
    client.apply(linked).await.unwrap();
    let mut worker = stage.worker(2);
    for result in [whole, client.result("end of the link")] {
        let error = result.get(secs(240)).await.unwrap_err().to_string();
        assert!(error.contains("ended as FAILURE: ValueError('step')"), "{error}");
    }
    let after = client.apply(step("canvas.wrap")).await.unwrap();
    after.get(SOON).await.unwrap();
    assert!(worker.is_running(), "the worker that had them lives");
}
