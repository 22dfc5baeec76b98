//! Revocations that outlive the workers.

use compat_tests::{eventually, secs};
use serde_json::json;

use crate::stage::{SOON, Stage};

#[test]
fn what_is_revoked_never_runs_though_all_workers_are_restarted_and_a_new_one_comes() {
    let stage = Stage::new();
    let mut workers = vec![stage.rust_worker("-n r1@host -c 1"), stage.rust_worker("-n r2@host -c 1")];
    let ids = stage.script(
        r#"
revoked = add.apply_async((1, 2), countdown=12)
stamped = add.s(1, 2)
stamped.stamp(tenant="acme")
stamped = stamped.apply_async(countdown=12)
other = add.apply_async((3, 4), countdown=12)
nodes = ["r1@host", "r2@host"]
wait_until("scheduled", lambda: sum(map(len, ask("scheduled", nodes).values())) == 3)
ask("revoke", nodes, task_id=revoked.id)
ask("revoke_by_stamped_headers", nodes, headers={"tenant": "acme"})
show([revoked.id, stamped.id, other.id])
"#,
    );
    // None of them is there any more when the others start: what one knows it can tell no other.
    for worker in &mut workers {
        assert!(worker.terminate(SOON).success());
    }
    drop(workers);
    let _again = stage.rust_worker("-n r1@host -c 1");
    let _new = stage.rust_worker("-n r3@host -c 1");
    let states = stage.script(&format!(
        r#"
revoked, stamped, other = [app.AsyncResult(id) for id in {ids}]
wait_until("done", lambda: other.ready() and stamped.ready() and revoked.ready())
totals = [stats["total"] for stats in ask("stats", ["r1@host", "r3@host"]).values()]
show([revoked.state, stamped.state, other.get(), sum(total.get("tools.add", 0) for total in totals)])
"#
    ));
    assert_eq!(states, json!(["REVOKED", "REVOKED", 7, 1]));
    // The message is gone: the id is forgotten in three hours rather than in a week.
    let key = "celeriac.revoked";
    let mut redis = stage.redis.connection();
    let id = ids[0].as_str().unwrap();
    eventually("it need not be kept for long", SOON, || {
        let revoked_at: f64 = redis::cmd("ZSCORE").arg(key).arg(id).query(&mut redis).unwrap();
        revoked_at < unix_now() - 6.0 * 86_400.0
    });
    let ttl: i64 = redis::cmd("TTL").arg(key).query(&mut redis).unwrap();
    assert!(ttl > 0, "{ttl}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rust_client_revokes_also_while_no_worker_is_there() {
    let stage = Stage::new();
    let app = stage.client();
    let first = app.send_task("tools.add", [1, 2], []).await.unwrap();
    let second = app.send_task("tools.add", [3, 4], []).await.unwrap();
    app.control().revoke([first.id()]).await.unwrap();
    let _worker = stage.rust_worker("-n rs@host -c 1");
    assert_eq!(second.get_as::<i64>(secs(10)).await.unwrap(), 7);
    compat_tests::eventually_async("it is revoked", secs(5), async || {
        first.state().await.unwrap() == celeriac::backend::TaskState::Revoked
    })
    .await;
}

#[test]
fn revoking_very_many_at_once_keeps_no_answer_waiting_and_loses_none() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 2");
    let answers = stage.script(
        r#"
import uuid
ids = [str(uuid.uuid4()) for _ in range(30_000)]
app.control.revoke(ids)
waits, states = [], []
for n in range(20):
    started = time.monotonic()
    assert app.control.ping(timeout=20, limit=1), n
    waits.append(time.monotonic() - started)
    if n == 0:
        # The worker has the request, and is not done with it.
        states = [add.apply_async((1, 1), task_id=id) for id in (ids[-1], ids[0])]
wait_until("both are dropped", lambda: all(result.state == "REVOKED" for result in states), 30)
wait_until("all are stored", lambda: app.AsyncResult(ids[15_000]).state == "REVOKED", 60)
waits.sort()
show([waits[10], waits[-1]])
"#,
    );
    let [usual, longest] = [0, 1].map(|place: usize| answers[place].as_f64().unwrap());
    println!("pings meanwhile: {usual} s, at most {longest} s");
    assert!(longest < 3.0, "a ping took {longest} s");
}

/// The broadcast is lost while the connection is away; the broker remembers.
#[test]
fn a_worker_that_missed_the_broadcast_learns_of_it() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 1");
    let score = unix_now();
    redis::cmd("ZADD")
        .arg("celeriac.revoked")
        .arg(score)
        .arg("missed")
        .exec(&mut stage.redis.connection())
        .unwrap();
    let known = stage.script(
        r#"
wait_until("it is known", lambda: "missed" in ask("revoked", ["rs@host"])["rs@host"], 15)
show("known")
"#,
    );
    assert_eq!(known, "known");
}

fn unix_now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}
