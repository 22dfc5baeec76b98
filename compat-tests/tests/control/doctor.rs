//! `celeriac doctor` at a broker and workers that are well, and at others that are not.

use std::process::Command;

use compat_tests::{Finished, RedisServer, binary, eventually, run, secs};
use serde_json::Value as Json;

use crate::stage::{SOON, Stage};

fn doctor(stage: &Stage, arguments: &[&str]) -> Finished {
    let mut command = Command::new(binary("celeriac"));
    command.arg("doctor").args(arguments);
    command.env("CELERY_BROKER_URL", stage.redis.url()).env("CELERY_RESULT_BACKEND", stage.redis.url());
    run(&command, secs(60))
}

/// Returns its findings, as `severity subject text`.
fn findings(stage: &Stage) -> Vec<String> {
    let finished = doctor(stage, &["--json"]);
    let found: Vec<Json> =
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished}"));
    let text = |finding: &Json, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    found
        .iter()
        .map(|finding| ["severity", "subject", "text"].map(|field| text(finding, field)).join(" "))
        .collect()
}

fn tell(stage: &Stage, arguments: &[&str]) {
    let mut command = redis::cmd(arguments[0]);
    let _: redis::Value = command.arg(&arguments[1..]).query(&mut stage.redis.connection()).unwrap();
}

#[track_caller]
fn assert_found(found: &[String], wanted: &[&str]) {
    for wanted in wanted {
        assert!(found.iter().any(|finding| finding.contains(wanted)), "{wanted} in {found:#?}");
    }
}

#[test]
fn a_healthy_application_has_no_warnings() {
    let stage = Stage::on(RedisServer::options().append_only().start());
    let _rust = stage.rust_worker("-n rust@host -c 1");
    let _python = stage.python_worker("-n py@host -c 1");
    let page = doctor(&stage, &["--strict"]).success();
    for line in [
        "good     server       Redis 7",
        "good     persistence  append-only file",
        "good     eviction",
        "good     clock",
        "good     rights",
        "good     workers      2 worker(s) answer, 1 of celeriac and 1 of Celery",
        "good     settings     the 2 workers agree",
        "good     visibility",
        "good     queues",
        "good     keys",
        "good     dead letters none",
        "good     results",
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }
}

#[test]
fn what_loses_or_repeats_tasks_is_named_with_what_to_do() {
    let stage = Stage::new();
    tell(&stage, &["CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "allkeys-lru"]);
    let _rust = stage.rust_worker("-n rust@host -c 1");
    let mut python = stage
        .celery("worker -l info -n py@host -c 1 -Q slow")
        .env("TOOLS_TRANSPORT_OPTIONS", r#"{"visibility_timeout": 1}"#)
        .env("TOOLS_ACKS_LATE", "1")
        .spawn();
    python.wait_for_line(" ready", secs(150));
    // A task that is acknowledged late, and runs for longer than the timeout; one for a queue without workers; a dead
    // letter; messages that a dead worker held; a result that never expires.
    stage.script(
        r#"
app.send_task("tools.sleep", (60,), queue="slow")
app.send_task("tools.add", (1, 2), queue="nobody")
app.send_task("tools.unheard_of", queue="celery")
print("null")"#,
    );
    tell(&stage, &["LPUSH", "celeriac.inflight.gone.0", "message"]);
    tell(&stage, &["SET", "celery-task-meta-forever", "{}"]);
    let wanted = [
        "problem persistence nothing is kept on disk",
        "problem eviction maxmemory-policy is allkeys-lru",
        "problem settings visibility_timeout differs (1 s on py@host; 3600 s on rust@host)",
        "problem visibility tools.sleep",
        "problem queues 1 message(s) wait in nobody",
        "warning dead letters 1 message(s) were given up",
        "problem keys 1 message(s) are held by celeriac workers that no longer exist",
        "warning results 1 of",
    ];
    let found = eventually("the task has run for longer than the timeout", SOON, || {
        let found = findings(&stage);
        found.iter().any(|finding| finding.contains(wanted[3])).then_some(found)
    });
    assert_found(&found, &wanted);
    let page = doctor(&stage, &[]).failure();
    assert!(page.contains("problem(s), "), "{page}");
}

#[test]
fn what_nobody_brings_back_or_takes_away_is_named() {
    let stage = Stage::new();
    // Kombu's bookkeeping without its index, and a message that was taken in 1970.
    tell(&stage, &["HSET", "unacked", "lost", "message", "old", "message"]);
    tell(&stage, &["ZADD", "unacked_index", "1", "old"]);
    tell(&stage, &["LPUSH", "gone.reply.celery.pidbox", "reply"]);
    assert_found(
        &findings(&stage),
        &[
            "problem keys 1 message(s) of unacked are not in unacked_index",
            "problem keys 1 message(s) were held for longer than the visibility timeout",
            "warning keys 1 list(s) of replies",
        ],
    );
}

#[test]
fn what_may_not_be_looked_at_is_a_note() {
    let stage = Stage::new();
    tell(&stage, &["ACL", "SETUSER", "default", "-info", "-scan", "-config", "-time", "-lmove"]);
    let found = findings(&stage);
    assert_found(
        &found,
        &[
            "note server",
            "note keys not looked at",
            "note results not looked at",
            "warning rights no right to LMOVE",
            "note workers not looked at",
        ],
    );
}

#[test]
fn a_broker_that_is_away_is_said_to_be_so() {
    let mut command = Command::new(binary("celeriac"));
    command.args(["doctor", "-b", "redis://127.0.0.1:1/0"]);
    let text = run(&command, secs(60)).failure();
    assert!(text.contains("Could not connect to the message broker"), "{text}");
}
