//! When tasks run: countdown, eta, expiry, retries.

use serde_json::json;

use crate::stage::Stage;

#[test]
fn a_task_runs_at_its_time_and_not_before() {
    let stage = Stage::new();
    let _worker = stage.worker("-c 4");
    let waited = stage.script(
        r#"
def waited(**options):
    start = time.time()
    assert sig("add", 1, 2).apply_async(**options).get(timeout=30) == 3
    return time.time() - start
now = lambda: datetime.now(timezone.utc)
show([waited(countdown=1.5), waited(eta=now() + timedelta(seconds=1.5)),
      waited(eta=(now() + timedelta(seconds=1.5)).astimezone(timezone(timedelta(hours=9)))),
      waited(eta=now() - timedelta(hours=1))])
"#,
    );
    let waited: Vec<f64> =
        waited.as_array().expect("a list").iter().filter_map(|seconds| seconds.as_f64()).collect();
    for seconds in &waited[..3] {
        assert!((1.4..8.0).contains(seconds), "{waited:?}");
    }
    assert!(waited[3] < 5.0, "what is due long since runs at once: {waited:?}");
    stage.await_waiting_and_held(0, 0);
}

#[test]
fn a_waiting_task_takes_no_slot() {
    let stage = Stage::new();
    let _worker = stage.worker("-c 1");
    let results = stage.script(
        r#"
later = [sig("add", 1, n).apply_async(countdown=3) for n in range(20)]
first = sig("add", 2, 2).apply_async().get(timeout=30)
early = [result.state for result in later]
show([first, early, [result.get(timeout=30) for result in later]])
"#,
    );
    assert_eq!(results[0], 4);
    assert_eq!(results[1], json!(vec!["PENDING"; 20]));
    assert_eq!(results[2], json!((1..21).collect::<Vec<i64>>()));
}

#[test]
fn a_task_that_expires_while_it_waits_is_revoked() {
    let stage = Stage::new();
    let _worker = stage.worker("-c 1");
    let states = stage.script(
        r#"
busy = sig("sleep", 2).apply_async()
behind = sig("add", 1, 2).apply_async(expires=0.5)
before = sig("add", 1, 2).apply_async(countdown=1.5, expires=0.5)
fresh = sig("add", 1, 2).apply_async(expires=60)
for result in (behind, before, fresh):
    result.get(timeout=30, propagate=False)
show([behind.state, before.state, fresh.state, str(behind.result)])
"#,
    );
    assert_eq!(states, json!(["REVOKED", "REVOKED", "SUCCESS", "expired"]));
    stage.await_waiting_and_held(0, 0);
}

#[test]
fn a_retry_keeps_its_id_and_its_callbacks_run_once() {
    let stage = Stage::new();
    let _worker = stage.worker("-c 2");
    let answers = stage.script(
        r#"
result = sig("retry", 7).apply_async(link=sig("add", 1).set(task_id="after"))
show([result.get(timeout=30), app.AsyncResult("after").get(timeout=30)])
"#,
    );
    assert_eq!(answers, json!([7, 8]));
    stage.await_waiting_and_held(0, 0);
}

#[test]
fn a_requeued_task_runs_again() {
    let stage = Stage::new();
    let _worker = stage.worker("-c 1");
    assert_eq!(stage.script(r#"show(sig("reject_requeue").apply_async().get(timeout=30))"#), "second time");
    stage.await_waiting_and_held(0, 0);
}
