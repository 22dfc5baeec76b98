//! Workers that are asked to stop.

use std::collections::BTreeSet;
use std::time::Duration;

use celeriac::control::Broadcast;
use celeriac::message::Signature;
use compat_tests::{Signal, eventually, secs, size};

use crate::stage::{REPAIRED, Stage, rounds};

impl Stage {
    /// The id and the arguments of each message in the queue, the one that is delivered next in front.
    fn waiting(&self) -> Vec<(String, String)> {
        let mut list = redis::cmd("LRANGE");
        list.arg("celery").arg(0).arg(-1);
        let messages: Vec<String> = list.query(&mut self.redis.connection()).unwrap();
        let shown = |message: &String| {
            let message: serde_json::Value = serde_json::from_str(message).unwrap();
            let header = |name: &str| message["headers"][name].as_str().unwrap_or_default().to_owned();
            (header("id"), header("argsrepr"))
        };
        messages.iter().rev().map(shown).collect()
    }
}

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
    let order: Vec<String> = stage.waiting().into_iter().map(|(_, arguments)| arguments).collect();
    let expected: Vec<String> = (ran..100).map(|number| format!("({number}, 0.5)")).collect();
    assert_eq!(order, expected, "each message is where it was before it was fetched");
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
    let leavers = size("FAULTS_RESTARTS", rounds(6));
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
    // Many leavers leave many tasks to the last one.
    stage.await_runs("done", count, REPAIRED + Duration::from_millis(count as u64));
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

#[test]
fn when_the_grace_ends_running_tasks_go_back_whichever_way_they_were_acknowledged() {
    let mut stage = Stage::new();
    stage.set("CELERIAC_SHUTDOWN_GRACE", "4");
    for (task, number) in [("faults.late", 0), ("faults.early", 1)] {
        let task = Signature::new(task).arg(number).arg(3600.0).option("task_id", format!("task-{number}"));
        stage.runtime.block_on(stage.client().apply(task)).unwrap();
    }
    let mut worker = stage.worker("leaving", 2);
    stage.await_runs("started", 2, secs(20));
    worker.signal(Signal::SIGTERM);
    worker.wait(secs(20));
    assert_eq!(stage.held(), "celery");
    let ids: BTreeSet<String> = stage.waiting().into_iter().map(|(id, _)| id).collect();
    assert!(ids.iter().eq(["task-0", "task-1"]), "{ids:?}");
    let _heir = stage.worker("heir", 2);
    eventually("all start again", secs(20), || stage.runs("started").values().all(|runs| *runs == 2));
}

#[test]
fn a_draining_worker_starts_nothing_and_still_answers_and_obeys() {
    let stage = Stage::new();
    let task = Signature::new("faults.late").arg(0).arg(3600.0).option("task_id", "running");
    stage.runtime.block_on(stage.client().apply(task)).unwrap();
    let mut worker = stage.worker("draining", 1);
    stage.await_runs("started", 1, secs(20));
    worker.signal(Signal::SIGTERM);
    worker.wait_for_line("Warm shutdown", secs(20));
    stage.send("faults.late", 1, 5, 0.0);
    let control = stage.client().control();
    let answers = stage.runtime.block_on(control.call(Broadcast::new("active"))).unwrap();
    let shown = format!("{answers:?}");
    assert!(shown.contains("faults.late"), "{shown}");
    assert_eq!(stage.runs("started").len(), 1);
    stage.runtime.block_on(control.terminate(["running"], "SIGTERM")).unwrap();
    assert!(worker.wait(secs(20)).success());
    assert_eq!((stage.ask(&["LLEN", "celery"]), stage.runs("done").len()), (5, 0));
}
