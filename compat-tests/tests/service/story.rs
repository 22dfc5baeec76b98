//! The whole way, with real Python Celery as the client: a chat request becomes a reminder, a scan finds it, a worker
//! delivers it.

use crate::stack::{On, SEND_DUE, SOON, Stack};
use compat_tests::{KeyWatch, eventually_async, secs};
use reqwest::{Method, StatusCode};

#[tokio::test]
async fn a_chat_request_is_delivered_by_a_scan_from_python_on_sqlite() {
    a_chat_request_is_delivered(On::Sqlite).await;
}

#[tokio::test]
async fn a_chat_request_is_delivered_by_a_scan_from_python_on_postgresql() {
    a_chat_request_is_delivered(On::Postgres).await;
}

async fn a_chat_request_is_delivered(on: On) {
    let stack = Stack::new(on);
    let (_api, _worker) = stack.start_api_and_worker().await;
    let reminder = stack.remind("drink water in 1 second").await;
    stack.await_due(&reminder).await;

    let task = stack.celery(&format!("call {SEND_DUE}")).run().success();
    assert_eq!(task.len(), 36, "`celery call` prints the id of the task, not {task:?}");
    assert_eq!(stack.celery(&format!("result {task}")).run().success(), "0", "it was queued ahead of time");

    stack.await_status(&reminder, "sent").await;
    eventually_async("the counter has risen", SOON, async || stack.counter("reminder_sent").await == 1.0)
        .await;
    assert_eq!(stack.counter("reminder_scheduled").await, 1.0);
    let deliveries = stack.deliveries();
    assert_eq!(deliveries.len(), 1, "{deliveries:?}");
    assert_eq!(deliveries[0]["reminder_id"], reminder);
    assert!(
        deliveries[0]["text"].as_str().is_some_and(|text| text.contains("drink water")),
        "{deliveries:?}"
    );
    let metrics = stack.request(Method::GET, "/metrics").send().await.expect("the api answers");
    let metrics = metrics.text().await.expect("the answer is text");
    assert!(metrics.contains(r#"ai_reminder_total{status="sent"} 1"#), "{metrics}");
    assert!(metrics.contains("ai_reminder_latency_seconds_bucket"), "{metrics}");

    let again = stack.celery(&format!("call {SEND_DUE}")).run().success();
    assert_eq!(stack.celery(&format!("result {again}")).run().success(), "0", "nothing is due any more");
    assert_eq!(stack.deliveries().len(), 1);
}

#[tokio::test]
async fn a_canceled_reminder_is_not_delivered() {
    let stack = Stack::new(On::Sqlite);
    let (_api, _worker) = stack.start_api_and_worker().await;
    let reminder = stack.remind("buy bread in 1 second").await;
    let (status, body) = stack.post(&format!("/reminders/{reminder}/cancel"), serde_json::json!({})).await;
    assert_eq!((status, body["status"].as_str()), (StatusCode::OK, Some("canceled")), "{body}");
    stack.await_due(&reminder).await;
    let task = stack.celery(&format!("call {SEND_DUE}")).run().success();
    assert_eq!(stack.celery(&format!("result {task}")).run().success(), "0");
    assert_eq!(stack.status_of(&reminder).await, "canceled");
    assert!(stack.deliveries().is_empty());
}

#[tokio::test]
async fn an_unknown_task_fails_as_in_celery_and_the_worker_lives_on() {
    let stack = Stack::new(On::Sqlite);
    let (_api, mut worker) = stack.start_api_and_worker().await;
    let task = stack.celery("call no.such.task").run().success();
    let failure = stack.celery(&format!("result {task}")).run().failure();
    assert!(failure.contains("NotRegistered"), "{failure}");
    assert!(worker.is_running());
    let ping = stack.celery("call app.celery_app.ping").run().success();
    assert_eq!(stack.celery(&format!("result {ping}")).run().success(), "pong");
}

#[tokio::test]
async fn an_unconfigured_client_reaches_the_worker_through_celerys_own_queue() {
    let stack = Stack::new(On::Sqlite);
    let (_api, _worker) = stack.start_api_and_worker().await;
    let url = stack.redis.url();
    let code = format!(
        "from celery import Celery; app = Celery(broker={url:?}, backend={url:?}); \
         print(app.send_task('app.celery_app.ping').get(timeout=20))"
    );
    assert_eq!(compat_tests::PythonEnv::get().script(&code).run().success(), "pong");
}

#[tokio::test]
async fn beat_publishes_the_scan_every_minute_and_ends_on_a_signal() {
    let stack = Stack::new(On::Sqlite);
    let watch = KeyWatch::of(&stack.redis);
    let (_api, _worker) = stack.start_api_and_worker().await;
    let mut beat = stack.start("companion-beat");
    let reminder = stack.remind("stretch in 1 second").await;
    beat.wait_for_line("Sending due task send-due-reminders", secs(75));
    stack.await_status(&reminder, "sent").await;
    assert!(beat.terminate(secs(10)).success());
    let keys = watch.keys();
    for part in
        ["redbeat::lock", "redbeat::history", "redbeat::schedule", "rate_limit:chat:", "metrics:counters"]
    {
        assert!(keys.iter().any(|key| key.contains(part)), "no {part} was used: {keys:?}");
    }
    watch.assert_documented(&["celery", "default"]);
}
