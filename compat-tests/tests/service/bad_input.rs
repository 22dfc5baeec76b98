//! Bad input gets its clear error, and nothing else stops.

use crate::stack::{On, SOON, Stack, answer};
use compat_tests::eventually;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn broken_messages_are_refused_with_a_reason_and_the_worker_goes_on() {
    let stack = Stack::new(On::Sqlite);
    let (_api, mut worker) = stack.start_api_and_worker().await;
    let mut redis = stack.redis.connection();
    let samples = std::fs::read_to_string(
        compat_tests::workspace_root().join("compat-tests/vectors/poison/cases.json"),
    );
    let samples: Value = serde_json::from_str(&samples.unwrap()).unwrap();
    let raws = samples["cases"].as_array().unwrap().iter().filter_map(|case| case["raw"].as_str());
    let mut pushed = 0;
    for raw in raws.chain(["", "not json", "{", "[]", "{}", "\u{0}"]) {
        redis::cmd("LPUSH").arg("default").arg(raw).exec(&mut redis).unwrap();
        pushed += 1;
    }
    assert!(pushed > 10, "the samples are there");
    for _ in 0..3 {
        let task = stack.celery("call app.celery_app.ping").run().success();
        assert_eq!(stack.celery(&format!("result {task}")).run().success(), "pong");
    }
    eventually("nothing waits and nothing is held", SOON, || -> redis::RedisResult<bool> {
        let waiting: i64 = redis::cmd("LLEN").arg("default").query(&mut redis)?;
        let held: i64 = redis::cmd("HLEN").arg("unacked").query(&mut redis)?;
        Ok(waiting == 0 && held == 0)
    });
    assert!(worker.is_running());
}

#[tokio::test]
async fn bad_requests_get_the_errors_that_the_clients_expect() {
    let stack = Stack::new(On::Sqlite);
    let (_api, _worker) = stack.start_api_and_worker().await;

    let chat = |key: &str| {
        stack.request(Method::POST, "/chat").header("X-API-Key", key).json(&json!({"message": "hi"}))
    };
    for key in ["", "sk-wrong", "sk-demo-accountabilitx"] {
        let (status, body) = answer(chat(key)).await.unwrap();
        assert_eq!(
            (status, &body),
            (StatusCode::UNAUTHORIZED, &json!({"detail": "Invalid API key."})),
            "{key:?}"
        );
    }

    for body in [json!({"message": ""}), json!({}), json!({"message": 7}), json!([]), json!(null)] {
        let (status, answer) = stack.post("/chat", body.clone()).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {answer}");
        let problem = &answer["detail"][0];
        assert!(
            problem["loc"].is_array() && problem["msg"].is_string() && problem["type"].is_string(),
            "{answer}"
        );
    }
    let request = stack.request(Method::POST, "/chat").header("X-API-Key", crate::stack::API_KEY);
    let (status, body) =
        answer(request.header("Content-Type", "application/json").body("{\"message\": ")).await.unwrap();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");

    let (status, body) = stack.post("/chat", json!({"message": "hi", "persona_key": "pirate"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    let (status, body) = stack.post("/reminders/no-uuid/cancel", json!({})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    let (status, body) =
        stack.post("/reminders/00000000-0000-4000-8000-000000000000/cancel", json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    let (status, body) = stack.get("/no/such/route").await;
    assert_eq!((status, &body), (StatusCode::NOT_FOUND, &json!({"detail": "Not Found"})));
    stack.await_health("ok", "ok", "ok").await;
}

#[tokio::test]
async fn a_task_with_bad_arguments_fails_with_a_message_that_names_them() {
    let stack = Stack::new(On::Sqlite);
    let (_api, _worker) = stack.start_api_and_worker().await;
    let deliver = "app.tasks.reminders.deliver_reminder";
    for (arguments, named) in [
        (json!(["nonsense"]), "reminder_id"),
        (json!([]), "reminder_id"),
        (json!([1, 2, 3, 4]), "deliver_reminder"),
    ] {
        let arguments = arguments.to_string().replace(' ', "");
        let task = stack.celery(&format!("call {deliver} --args={arguments}")).run().success();
        let failure = stack.celery(&format!("result {task}")).run().failure();
        assert!(failure.contains(named), "{arguments}: {failure}");
    }
}
