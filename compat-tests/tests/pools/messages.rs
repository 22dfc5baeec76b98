//! What becomes of messages: revoked ones after a restart, redelivered ones, late ones.

use compat_tests::{scratch_dir, secs};
use serde_json::json;

use crate::bench::Bench;

#[test]
fn revoked_tasks_stay_revoked_when_the_worker_was_killed() {
    let bench = Bench::new();
    let folder = scratch_dir("statedb");
    let arguments = format!("-c 1 -n keeper@h --statedb {}/%n.state", folder.path().display());
    let mut worker = bench.worker(&arguments);
    let file = folder.path().join("keeper.state");
    bench.script(
        r#"
app.control.revoke("unwanted", reply=True, timeout=5)
app.control.revoke_by_stamped_headers({"tenant": "acme"}, reply=True, timeout=5)
print("null")"#,
    );
    compat_tests::eventually("the state file has both", secs(10), || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("unwanted") && text.contains("acme"))
    });
    worker.kill();
    let mut worker = bench.worker(&arguments);
    let found = bench.script(
        r#"
inspected = list(app.control.inspect(timeout=5).revoked().values())[0]
stamped = app.send_task("pools.late", headers={"stamped_headers": ["tenant"], "stamps": {"tenant": "acme"}, "tenant": "acme"})
print(json.dumps([inspected, outcome(call("late", task_id="unwanted")), outcome(call("late"))]))"#,
    );
    assert_eq!(
        found,
        json!([["unwanted"], ["celery.exceptions.TaskRevokedError", "revoked"], 1]),
        "the third ran first"
    );
    assert!(worker.terminate(secs(20)).success());
}

/// Publishes a task message that looks as if it had been delivered before.
const REDELIVER: &str = r#"
def redelivered(name, id, embed=None, **headers):
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        message = app.amqp.as_task_v2(id, name, args=(), kwargs={})
        body = list(message.body)
        body[2].update(embed or {})
        properties = channel.prepare_message(json.dumps(body), content_type="application/json",
            content_encoding="utf-8", headers={**message.headers, **headers, "redelivered": True},
            properties={**message.properties, "delivery_info": {"exchange": "", "routing_key": "celery", "redelivered": True},
                        "delivery_tag": str(uuid.uuid4()), "delivery_mode": 2})
        channel._put("celery", properties)
"#;

#[test]
fn a_redelivered_task_that_succeeded_is_not_run_again_and_what_follows_is_sent_once() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 1 --worker-deduplicate-successful-tasks");
    let found = bench.script(&format!(
        r#"{REDELIVER}
first = outcome(call("late", task_id="once"))
redelivered("pools.late", "once")
follow = dict(app.signature("pools.echo").set(task_id="follower"))
app.backend.store_result("alien", 41, "SUCCESS")
redelivered("pools.late", "alien", {{"callbacks": [follow]}})
follower = outcome(app.AsyncResult("follower"))
redelivered("pools.late", "fresh")
print(json.dumps([first, follower, outcome(app.AsyncResult("fresh")), outcome(app.AsyncResult("alien")), outcome(call("late"))]))"#
    ));
    assert_eq!(found, json!([1, 41, 2, 41, 3]));
    assert_eq!(worker.lines_with("Task already completed successfully").len(), 2);
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn a_time_without_an_offset_is_utc_whatever_the_workers_timezone() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 1 --timezone Asia/Tokyo");
    let found = bench.script(
        r#"
from datetime import datetime, timedelta, timezone
now = datetime.now(timezone.utc).replace(tzinfo=None)
def raw(id, **headers):
    with app.connection_for_write() as connection:
        message = app.amqp.as_task_v2(id, "pools.late", args=(), kwargs={})
        connection.Producer().publish(message.body, routing_key="celery", headers={**message.headers, **headers},
                                      serializer="json", **message.properties)
raw("expired", expires=(now - timedelta(minutes=5)).isoformat())
raw("lives", expires=(now + timedelta(minutes=5)).isoformat(), eta=(now + timedelta(seconds=1)).isoformat())
print(json.dumps([outcome(app.AsyncResult("expired")), outcome(app.AsyncResult("lives"), 20)]))"#,
    );
    assert_eq!(found, json!([["celery.exceptions.TaskRevokedError", "expired"], 1]));
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn annotations_change_what_tasks_declare_and_the_eta_limit_bounds_what_is_held() {
    let bench = Bench::new();
    let annotations = r#"{"pools.sleep":{"soft_time_limit":1}}"#;
    let mut worker = bench.worker(&format!(
        "-c 1 --prefetch-multiplier 1 --worker-eta-task-limit 3 --task-annotations {annotations}"
    ));
    let found = bench.script(
        r#"
limited = outcome(call("sleep", 300))[0]
waiting = [call("late", countdown=600) for _ in range(6)]
eventually(lambda: len(list(app.control.inspect(timeout=5).scheduled().values())[0]) == 3, "3 held")
print(json.dumps([limited, redis.llen("celery")]))"#,
    );
    assert_eq!(found, json!(["billiard.exceptions.SoftTimeLimitExceeded", 3]));
    assert!(worker.terminate(secs(20)).success());
}
