//! Runs that beat has published twice, because it died in between.

use serde_json::json;

use crate::stage::Stage;

#[test]
fn a_run_of_beat_that_comes_in_two_messages_is_run_once() {
    let stage = Stage::new();
    let worker = stage.worker("-c 2");
    let results = stage.script(
        r#"
beat = {"celery_beat_task": True}
run, random = "0190e5b0-6f7a-8c3d-9e1f-2a4b6c8d0e1f", "0190e5b0-6f7a-4c3d-9e1f-2a4b6c8d0e1f"
for id in (run, random):
    for _ in range(2):
        result = sig("add", 1, 2).apply_async(task_id=id, headers=beat)
    result.get(timeout=30)
# Without the header the id says nothing.
for _ in range(2):
    sig("mul", 3, 4).apply_async(task_id=run.replace("0190", "0191")).get(timeout=30)
# A message that comes again is the same one, and so is a retry.
again = sig("reject_requeue").apply_async(task_id=run.replace("0190", "0192"), headers=beat).get(timeout=30)
retried = sig("retry", 7).apply_async(task_id=run.replace("0190", "0193"), headers=beat).get(timeout=30)
show([again, retried])
"#,
    );
    assert_eq!(results, json!(["second time", 7]));
    stage.await_waiting_and_held(0, 0);
    let count = |pattern: &str| worker.lines_with(pattern).len();
    assert_eq!(count("Task vec.add.*-8c3d-.* succeeded"), 1);
    assert_eq!(count("Task vec.add.*-8c3d-.* ignored: beat has published this run twice"), 1);
    assert_eq!(count("Task vec.add.*-4c3d-.* succeeded"), 2);
    assert_eq!(count("Task vec.mul.* succeeded"), 2);
    assert_eq!(count("ignored"), 1);
}
