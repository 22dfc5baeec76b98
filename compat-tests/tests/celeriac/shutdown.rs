//! What a worker that ends leaves behind.

use std::time::Instant;

use compat_tests::{Signal, eventually, secs};
use serde_json::json;

use crate::stage::{SOON, Stage};

#[test]
fn a_warm_shutdown_finishes_what_runs_and_hands_back_the_rest() {
    let stage = Stage::new();
    let mut worker = stage.worker("-c 1");
    stage.script(
        r#"
ids = [sig("sleep", 2).apply_async(task_id=f"task-{n}").id for n in range(3)]
sig("add", 1, 2).apply_async(task_id="later", countdown=60)
"#,
    );
    eventually("the first one runs and others are held", SOON, || stage.waiting_and_held().1 > 0);
    assert!(worker.terminate(secs(20)).success());
    let states = stage.script(r#"show([app.AsyncResult(f"task-{n}").state for n in range(3)])"#);
    assert_eq!(states, json!(["SUCCESS", "PENDING", "PENDING"]));
    assert_eq!(stage.waiting_and_held(), (3, 0), "nothing is held by a worker that has ended");

    let _next = stage.worker("-c 4");
    let results = stage.script(r#"show([app.AsyncResult(f"task-{n}").get(timeout=30) for n in range(3)])"#);
    assert_eq!(results, json!([2.0, 2.0, 2.0]));
}

#[test]
fn a_late_acknowledged_task_of_a_killed_worker_runs_again_and_an_early_one_does_not() {
    let stage = Stage::new();
    let settings = [("CELERY_BROKER_TRANSPORT_OPTIONS", r#"{"visibility_timeout": 4}"#)];
    let mut worker = stage.worker_with("-c 2", &settings);
    stage.script(
        r#"
sig("sleep", 6).apply_async(task_id="early")
sig("sleep_late", 6).apply_async(task_id="late")
"#,
    );
    // Both run in the two slots; only the late one's message is still held.
    stage.await_waiting_and_held(0, 1);
    worker.signal(Signal::SIGKILL);
    worker.wait(secs(10));
    let _next = stage.worker_with("-c 2", &settings);
    let answers =
        stage.script(r#"show([app.AsyncResult("late").get(timeout=60), app.AsyncResult("early").state])"#);
    assert_eq!(answers, json!([6.0, "PENDING"]));
    stage.await_waiting_and_held(0, 0);
}

#[test]
fn a_soft_shutdown_takes_its_time_on_an_idle_worker_if_it_is_set() {
    let stage = Stage::new();
    let on_idle =
        [("CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT", "2"), ("CELERY_WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE", "1")];
    let mut worker = stage.worker_with("-c 1", &on_idle);
    let asked = Instant::now();
    worker.signal(Signal::SIGQUIT);
    worker.wait(SOON);
    assert!(asked.elapsed() >= secs(2), "{:?}", asked.elapsed());
}
