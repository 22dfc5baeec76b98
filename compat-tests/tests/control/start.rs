//! How long a worker takes to its first task, with a fleet around it.

use std::process::Command;
use std::time::Instant;

use compat_tests::{Process, binary, secs, size};
use serde_json::json;

use crate::stage::Stage;

/// Other nodes, as many connections that listen to remote control and never answer: the worst for who waits for them.
#[test]
fn a_large_fleet_that_does_not_answer_does_not_delay_the_first_task() {
    let stage = Stage::new();
    let others = size("CONTROL_FLEET", 50);
    let _fleet: Vec<_> = (0..others)
        .map(|_| {
            let mut connection = stage.redis.connection();
            redis::cmd("PSUBSCRIBE").arg("/0.celery.pidbox").exec(&mut connection).unwrap();
            connection
        })
        .collect();
    stage.script("add.apply_async((1, 2), task_id='first')\nshow(0)");
    let mut command = Command::new(binary("tools-worker"));
    command.args(["-n", "rs@host", "-c", "1", "-l", "info"]);
    command.env("CELERY_BROKER_URL", stage.redis.url()).env("CELERY_RESULT_BACKEND", stage.redis.url());
    let started = Instant::now();
    let mut worker = Process::spawn("rs@host", &command);
    worker.wait_for_line("succeeded in", secs(10));
    let took = started.elapsed();
    println!("from exec to the end of the first task, {others} other nodes: {took:?}");
    // The promise is 200 ms for a release build on a machine of its own; mingling alone would take a second.
    assert!(took < secs(1), "{took:?}");
}

#[test]
fn answers_of_others_that_come_late_are_heeded() {
    let stage = Stage::new();
    let _python = stage.python_worker("-n py@host -c 1");
    stage.script("ask('revoke', ['py@host'], task_id='old')\nshow(0)");
    // One more listens and does not answer: mingling goes on to its end in the background.
    let mut silent = stage.redis.connection();
    redis::cmd("PSUBSCRIBE").arg("/0.celery.pidbox").exec(&mut silent).unwrap();
    let mut worker = stage.rust_worker("-n rs@host -c 1");
    worker.wait_for_line("sync with 1 nodes complete", secs(10));
    let known = stage.script("show(ask('revoked', ['rs@host'])['rs@host'])");
    assert_eq!(known, json!(["old"]));
}
