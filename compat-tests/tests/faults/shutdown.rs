//! Workers that are asked to stop.

use compat_tests::{Signal, secs};

use crate::stage::{REPAIRED, Stage, rounds};

#[test]
fn a_warm_shutdown_hands_prefetched_messages_back_in_order() {
    let mut stage = Stage::new();
    stage.set("WORKER_PREFETCH_MULTIPLIER", "50");
    stage.send("faults.late", 0, 100, 0.5);
    let mut worker = stage.worker("leaving", 1);
    stage.await_runs("started", 1, secs(20));
    assert!(worker.terminate(secs(20)).success());
    let ran = stage.runs("started").len();
    assert_eq!(stage.runs("done").len(), ran);
    assert_eq!(stage.ask(&["LLEN", "celery"]), 100 - ran as i64);
    assert_eq!(stage.held(), "celery");
    let mut heir = stage.worker("heir", 1);
    stage.await_runs("started", ran + 4, secs(20));
    assert!(heir.terminate(secs(20)).success());
    let order: Vec<i64> =
        redis::cmd("LRANGE").arg("started").arg(0).arg(-1).query(&mut stage.record.connection()).unwrap();
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn workers_that_come_and_go_under_load_lose_and_repeat_nothing() {
    let stage = Stage::new();
    let leavers = rounds(6);
    let count = leavers * 400;
    for (task, first) in [("faults.late", 0), ("faults.early", count / 2)] {
        stage.send(task, first, count / 2, 0.02);
    }
    let mut workers = vec![stage.worker("first", 10)];
    for number in 0..leavers {
        workers.push(stage.worker(&format!("next{number}"), 10));
        assert!(workers.remove(0).terminate(secs(20)).success());
    }
    workers.push(stage.worker("last", 50));
    stage.await_runs("done", count, REPAIRED);
    stage.await_empty();
    stage.report("SIGTERM under load", "done", count);
    assert!(stage.runs("started").values().all(|runs| *runs == 1));
}

#[test]
fn a_cold_shutdown_gives_running_late_acked_tasks_back_at_once() {
    let stage = Stage::new();
    stage.send("faults.late", 0, 5, 3600.0);
    let mut worker = stage.worker("leaving", 5);
    stage.await_runs("started", 5, secs(20));
    worker.signal(Signal::SIGQUIT);
    worker.wait(secs(20));
    assert_eq!((stage.ask(&["LLEN", "celery"]), stage.held()), (5, "celery".to_owned()));
}
