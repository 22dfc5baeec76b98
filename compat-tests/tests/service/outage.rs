//! What goes away comes back, nothing accepted is lost, and nothing is sent twice.

use crate::stack::{On, SEND_DUE, Stack};
use compat_tests::{PostgresServer, run, secs};

#[tokio::test]
async fn all_parts_reconnect_to_a_restarted_redis_and_a_queued_task_runs() {
    let mut stack = Stack::new(On::Sqlite);
    let (_api, mut worker) = stack.start_api_and_worker().await;
    let reminder = stack.remind("stretch in 1 second").await;
    stack.await_due(&reminder).await;
    worker.kill();
    stack.celery(&format!("call {SEND_DUE}")).run().success();

    stack.redis.kill();
    stack.await_health("ok", "fail", "fail").await;
    let _worker = stack.start("companion-worker");
    stack.redis.restart();

    stack.await_health("ok", "ok", "ok").await;
    stack.await_status(&reminder, "sent").await;
    assert_eq!(stack.deliveries().len(), 1);
}

#[tokio::test]
async fn a_worker_outlives_an_outage_of_redis() {
    let mut stack = Stack::new(On::Sqlite);
    let (mut api, mut worker) = stack.start_api_and_worker().await;
    for _ in 0..3 {
        stack.redis.kill();
        stack.await_health("ok", "fail", "fail").await;
        stack.redis.restart();
        stack.await_health("ok", "ok", "ok").await;
    }
    assert!(api.is_running() && worker.is_running());
    let task = stack.celery("call app.celery_app.ping").run().success();
    assert_eq!(stack.celery(&format!("result {task}")).run().success(), "pong");
}

#[tokio::test]
async fn a_killed_database_comes_back_and_reminders_go_on() {
    let mut server = PostgresServer::start();
    let stack = Stack::on_server(&server);
    stack.exec("alembic upgrade head").run().success();
    run(stack.command("companion").args(["seed", "--demo"]), crate::stack::SOON).success();
    let (_api, _worker) = stack.start_api_and_worker().await;
    let reminder = stack.remind("stretch in 1 second").await;
    stack.await_due(&reminder).await;

    server.kill();
    stack.await_health("fail", "ok", "ok").await;
    server.restart();
    stack.await_health("ok", "ok", "ok").await;

    stack.exec("alembic upgrade head").run().success();
    stack.exec("python -m app.tasks.reminders.send_due_reminders").run().success();
    stack.await_status(&reminder, "sent").await;
    assert_eq!(stack.deliveries().len(), 1);
}

#[tokio::test]
async fn a_worker_asked_to_stop_finishes_and_leaves_nothing_behind() {
    let stack = Stack::new(On::Sqlite);
    let (_api, mut worker) = stack.start_api_and_worker().await;
    for _ in 0..5 {
        stack.celery("call app.celery_app.ping").run().success();
    }
    assert!(worker.terminate(secs(10)).success());
    let held: i64 = redis::cmd("HLEN").arg("unacked").query(&mut stack.redis.connection()).unwrap();
    assert_eq!(held, 0);
}
