//! Going back to Celery's own workers: what killed workers held is brought back without a worker.

use compat_tests::{Finished, run, secs};

use crate::stage::{REPAIRED, Stage};

fn recover(stage: &Stage, arguments: &[&str]) -> Finished {
    run(&stage.celeriac(&[&["recover"], arguments].concat()), secs(60))
}

#[test]
fn what_killed_workers_held_is_recovered_for_celerys_own() {
    let stage = Stage::new();
    stage.send("faults.late", 0, 40, 0.0);
    for _ in 0..3 {
        let mut command = stage.command(&stage.redis.url(), "victim", 4);
        command.env("CELERIAC_FAILPOINTS", "fetch.moved=kill");
        compat_tests::Process::spawn("victim", &command).wait(secs(60));
    }
    assert!(stage.held().contains("celeriac.inflight."), "{}", stage.held());
    let said = recover(&stage, &["--wait"]).success();
    assert!(said.lines().any(|line| line == "restored 40") || said.starts_with("restored "), "{said}");
    assert_eq!(stage.ask(&["LLEN", "celery"]), 40, "{said}");
    assert_eq!(stage.held(), "celery");
    let json = recover(&stage, &["--json"]).success();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["restored"].as_u64(), json["workers"].as_u64()), (Some(0), Some(0)), "{json}");
    let _stock = stage.stock_worker(4);
    stage.await_runs("done", 40, REPAIRED);
    stage.await_empty();
    stage.report("killed workers, then back to Celery's own", "done", 40);
}

#[test]
fn a_living_worker_keeps_what_it_holds() {
    let stage = Stage::new();
    stage.send("faults.late", 0, 4, 5.0);
    let _worker = stage.worker("one", 4);
    stage.await_runs("started", 4, secs(20));
    let said = recover(&stage, &[]).success();
    assert!(said.starts_with("restored 0\n") && said.contains("1 worker(s) live"), "{said}");
    stage.await_runs("done", 4, REPAIRED);
    stage.await_empty();
    assert!(stage.runs("done").values().all(|runs| *runs == 1), "{:?}", stage.runs("done"));
}

#[test]
fn what_cannot_be_recovered_stays_and_is_named() {
    let stage = Stage::new();
    stage.send("faults.late", 0, 5, 0.0);
    stage.tell(&["RENAME", "celery", "celeriac.inflight.gone.3"]);
    stage.tell(&["ZADD", "celeriac.inflight", "1", "gone"]);
    stage.tell(&["SET", "celery", "somebody else's"]);
    let said = recover(&stage, &[]);
    assert_eq!(said.status.code(), Some(1));
    let stays = "stays: 5 message(s) of dead workers cannot go back to celery: WRONGTYPE";
    assert!(said.stdout.contains(stays), "{}", said.stdout);
    assert_eq!(stage.ask(&["LLEN", "celeriac.inflight.gone.3"]), 5);
    stage.tell(&["DEL", "celery"]);
    assert!(recover(&stage, &[]).success().starts_with("restored 5"));
    assert_eq!(stage.held(), "celery");
}
