//! Messages that cannot be run, or kill their workers: kept with reason and bytes, and brought back on demand.

use std::process::Command;

use celeriac::message::Signature;
use compat_tests::{binary, eventually, run, secs};

use crate::stage::{REPAIRED, Stage};

/// `celeriac dead ARGUMENTS`
fn dead(stage: &Stage, arguments: &[&str]) -> String {
    let mut command = Command::new(binary("celeriac"));
    command.arg("dead").args(arguments).env("CELERY_BROKER_URL", stage.redis.url());
    run(&command, secs(20)).success()
}

/// The columns of the only dead letter.
fn only(stage: &Stage) -> Vec<String> {
    let list = dead(stage, &["list"]);
    assert_eq!(list.lines().count(), 1, "{list}");
    list.split_whitespace().map(str::to_owned).collect()
}

fn push(stage: &Stage, raw: &[u8]) {
    let _: i64 = redis::cmd("LPUSH").arg("celery").arg(raw).query(&mut stage.redis.connection()).unwrap();
}

#[test]
fn a_message_that_kills_its_worker_each_time_is_given_up() {
    let mut stage = Stage::new();
    stage.set("CELERIAC_MAX_DELIVERIES", "2");
    let poison = Signature::new("faults.poison").arg(1);
    stage.runtime.block_on(stage.client().apply(poison)).unwrap();
    // What a worker only held when it died is not blamed for it.
    let held = Signature::new("faults.late").arg(2).countdown(secs(3600));
    stage.runtime.block_on(stage.client().apply(held)).unwrap();
    for name in ["first", "second"] {
        let mut victim = stage.worker(name, 2);
        victim.wait(REPAIRED);
    }
    let _heir = stage.worker("heir", 2);
    eventually("the poison is a dead letter", REPAIRED, || stage.ask(&["LLEN", "celeriac.dead"]) == 1);
    let columns = only(&stage);
    assert_eq!(columns[2..7], ["deliveries", "3", "celery", "heir@host", "faults.poison"]);
    assert_eq!(stage.runs("started")[&1], 2);
    dead(&stage, &["drop", &columns[0]]);
    assert_eq!(dead(&stage, &["list"]), "");
}

#[test]
fn an_unreadable_message_is_kept_byte_by_byte() {
    let stage = Stage::new();
    let mut worker = stage.worker("one", 2);
    for raw in [&b"{\"body\": \"\xff\xfe"[..], b"", b"[1, 2]"] {
        push(&stage, raw);
        eventually("it is a dead letter", secs(20), || stage.ask(&["LLEN", "celeriac.dead"]) == 1);
        let columns = only(&stage);
        assert_eq!(columns[2..6], ["malformed", "1", "celery", "one@host"]);
        worker.signal(compat_tests::Signal::SIGSTOP);
        dead(&stage, &["requeue", &columns[0]]);
        let back: Vec<u8> = redis::cmd("RPOP").arg("celery").query(&mut stage.redis.connection()).unwrap();
        assert_eq!(back, raw);
        worker.signal(compat_tests::Signal::SIGCONT);
    }
    stage.send("faults.late", 1, 1, 0.0);
    stage.await_runs("done", 1, secs(20));
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn a_rejected_message_is_kept_if_that_is_set() {
    let mut stage = Stage::new();
    stage.set("CELERIAC_DEAD_LETTER_REJECTED", "true");
    let _worker = stage.worker("one", 2);
    stage.runtime.block_on(stage.client().apply(Signature::new("faults.reject").arg(1))).unwrap();
    eventually("it is a dead letter", secs(20), || stage.ask(&["LLEN", "celeriac.dead"]) == 1);
    assert_eq!(only(&stage)[2..7], ["rejected", "1", "celery", "one@host", "faults.reject"]);
}

#[test]
fn a_message_of_an_unknown_task_is_kept_and_a_stock_worker_runs_it() {
    let stage = Stage::new();
    let mut worker = stage.worker("one", 2);
    let unknown = Signature::new("faults.stock_only").arg(7);
    let result = stage.runtime.block_on(stage.client().apply(unknown)).unwrap();
    eventually("it is a dead letter", secs(20), || stage.ask(&["LLEN", "celeriac.dead"]) == 1);
    let columns = only(&stage);
    assert_eq!(columns[2..8], ["unregistered", "1", "celery", "one@host", "faults.stock_only", result.id()]);
    let shown = dead(&stage, &["show", &columns[0]]);
    assert!(shown.contains(result.id()), "{shown}");
    assert!(worker.terminate(secs(20)).success());
    dead(&stage, &["requeue", &columns[0]]);
    let _stock = stage.stock_worker(1);
    stage.await_runs("done", 1, REPAIRED);
}
