//! A broker that goes away, loses its connections, or does not answer.

use std::time::{Duration, Instant};

use compat_tests::{RedisServer, secs};

use crate::stage::{REPAIRED, Stage, rounds};

#[test]
fn a_killed_and_restarted_redis_loses_nothing_under_load() {
    let mut stage = Stage::on(RedisServer::options().append_only());
    let restarts = rounds(4);
    let count = restarts * 300;
    stage.send("faults.late", 0, count, 0.05);
    let _workers = [stage.worker("one", 10), stage.worker("two", 10)];
    for restart in 1..=restarts {
        stage.await_runs("done", restart * 200, REPAIRED);
        stage.redis.kill();
        stage.redis.restart();
    }
    stage.await_runs("done", count, REPAIRED);
    stage.await_empty();
    stage.report("redis killed and restarted", "done", count);
    let more: usize = stage.runs("started").values().map(|runs| runs - 1).sum();
    assert_eq!(more, 0, "no worker died and no lease ended, so nothing had to run twice");
}

#[test]
fn cut_connections_lose_and_repeat_nothing() {
    let stage = Stage::new();
    let count = rounds(4) * 1500;
    stage.send("faults.late", 0, count, 0.0);
    let _workers = [stage.worker("one", 20), stage.worker("two", 20)];
    let mut cuts = 0;
    let end = Instant::now() + REPAIRED;
    while stage.runs("done").len() < count && Instant::now() < end {
        stage.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        cuts += 1;
        // The pause lets the workers do something to be interrupted in.
        std::thread::sleep(Duration::from_millis(150));
    }
    stage.await_runs("done", count, REPAIRED);
    stage.await_empty();
    println!("{cuts} cuts");
    stage.report("CLIENT KILL of all connections", "done", count);
    let more: usize = stage.runs("started").values().map(|runs| runs - 1).sum();
    assert_eq!(more, 0, "no worker died, so nothing had to run twice");
}

#[test]
fn a_redis_that_stands_still_is_waited_for() {
    let stage = Stage::new();
    stage.send("faults.late", 0, 600, 0.05);
    let mut worker = stage.worker("one", 10);
    stage.await_runs("done", 100, REPAIRED);
    stage.redis.pause();
    let pause = if rounds(1) > 1 { secs(45) } else { secs(8) };
    std::thread::sleep(pause);
    assert!(worker.is_running());
    stage.redis.resume();
    stage.await_runs("done", 600, REPAIRED);
    stage.await_empty();
    stage.report("redis stopped for longer than the visibility timeout", "done", 600);
}
