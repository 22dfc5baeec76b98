//! Reminders: asked for, listed in pages, cancelled, queued again.

use companion::reminders;
use serde_json::{Value, json};
use warp::http::StatusCode;

use crate::support::{Api, On, get, on_both, parts, post, user};
on_both! {
    a_reminder_is_asked_for_listed_and_canceled
    chosen_reminders_are_queued_again_by_an_operator
    reminders_are_listed_in_pages
}

async fn a_reminder_is_asked_for_listed_and_canceled(on: On) {
    let api = Api::new(on).await;
    let mut ids = Vec::new();
    for text in ["first", "second"] {
        let message = format!("Remind me to do the {text} in 10 minutes");
        let response = api
            .send(user(post("/chat")).header("x-request-id", "req-1").json(&json!({ "message": message })))
            .await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-request-id"], "req-1");
        let body: Value = serde_json::from_slice(response.body()).expect("JSON");
        let result = &body["actions"][0]["result"];
        assert_eq!(body["actions"][0]["tool"], "schedule_reminder");
        assert_eq!(result["text"], format!("do the {text}"));
        assert_eq!(result["run_ts"], body["actions"][0]["arguments"]["run_ts"]);
        ids.push(result["id"].as_str().expect("an id").to_owned());
    }
    let (status, list) = api.get("/reminders").await;
    assert_eq!(status, 200);
    let listed: Vec<&str> =
        list.as_array().expect("a list").iter().map(|row| row["id"].as_str().expect("id")).collect();
    assert_eq!(listed, [ids[1].as_str(), ids[0].as_str()], "newest first");
    let mut keys: Vec<&str> = list[0].as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        ["calendar_event_id", "id", "local_ts", "run_ts", "sent_at", "status", "text", "utc_ts"]
    );
    assert_eq!(list[0]["status"], "scheduled");
    assert!(list[0]["utc_ts"].as_str().expect("time").ends_with("+00:00"));
    let stored =
        api.companion.store.reminder(ids[0].parse().expect("uuid")).await.expect("database").expect("row");
    assert_eq!(stored.correlation_id, "req-1");

    let path = format!("/reminders/{}/cancel", ids[0]);
    assert_eq!(api.post(&path, json!({})).await, (StatusCode::OK, json!({ "status": "canceled" })));
    let (status, again) = api.post(&path, Value::Null).await;
    assert_eq!((status, &again["status"]), (StatusCode::OK, &json!("noop")));
    assert_eq!(again["message"], "Reminder is already canceled.");
    let nobody = "/reminders/00000000-0000-0000-0000-000000000000/cancel";
    assert_eq!(
        api.post(nobody, json!({})).await,
        (StatusCode::NOT_FOUND, json!({ "detail": "Reminder not found." }))
    );
    let (status, invalid) = api.post("/reminders/seven/cancel", json!({})).await;
    assert_eq!(status, 422);
    assert_eq!(invalid["detail"][0]["loc"], json!(["path", "reminder_id"]));

    let store = &api.companion.store;
    store.insert_user("other@example.com", None).await.expect("user");
    let other = store.user_by_email("other@example.com").await.expect("database").expect("user");
    companion::auth::register(store, other.id, "sk-other-key").await.expect("key");
    let path = format!("/reminders/{}/cancel", ids[1]);
    let (status, _) = parts(&api.send(post(&path).header("x-api-key", "sk-other-key")).await);
    assert_eq!(status, 404, "another user's reminder");

    let (_, metrics) = api.get("/metrics/basic").await;
    assert_eq!(metrics["counters"]["reminder_scheduled"], 2);
    assert_eq!(metrics["counters"]["reminder_canceled"], 1);
}

async fn chosen_reminders_are_queued_again_by_an_operator(on: On) {
    let api = Api::new(on).await;
    let (_, body) = api.post("/chat", json!({ "message": "Remind me to rest in 1 minute" })).await;
    let id = body["actions"][0]["result"]["id"].as_str().expect("an id").to_owned();
    let nobody = "00000000-0000-0000-0000-000000000000";
    let requeue = |ids: Value| {
        post("/admin/reminders/requeue").header("x-request-id", "by-hand").json(&json!({ "ids": ids }))
    };
    let (status, body) = api.admin(requeue(json!([id, nobody]))).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["queued"][0]["id"], id.as_str());
    assert_eq!(body["skipped"], json!([{ "id": nobody, "reason": "not found" }]));
    let queued = api.queued();
    assert_eq!(queued.len(), 1);
    let headers = &queued[0]["headers"];
    assert_eq!(headers["task"], "app.tasks.reminders.deliver_reminder");
    assert_eq!(headers["id"], body["queued"][0]["task_id"]);
    assert_eq!(headers["x_request_id"], "by-hand");
    let (_, queues) = api.admin(get("/admin/queues")).await;
    assert_eq!(queues, json!({ "queues": { "default": 1, "celery": 0 } }));

    let late = chrono::Utc::now() + chrono::Duration::hours(1);
    let delivered =
        reminders::deliver(&api.companion, id.parse().expect("uuid"), late, 0).await.expect("deliver");
    assert_eq!(delivered, reminders::Delivery::Sent);
    let (_, body) = api.admin(requeue(json!([id]))).await;
    assert_eq!(body, json!({ "queued": [], "skipped": [{ "id": id, "reason": "already sent" }] }));
    for bad in [json!([]), json!(["seven"]), json!("x"), Value::Null] {
        assert_eq!(api.admin(requeue(bad)).await.0, 422);
    }
    let (status, recent) = api.admin(get("/admin/reminders")).await;
    assert_eq!((status, &recent["reminders"][0]["status"]), (StatusCode::OK, &json!("sent")));
    assert_eq!(recent["counts"], json!({ "sent": 1 }));
    let text = api.send(get("/metrics")).await;
    let text = String::from_utf8_lossy(text.body()).into_owned();
    for line in [
        "ai_reminder_total{status=\"scheduled\"} 1",
        "ai_reminder_total{status=\"sent\"} 1",
        "ai_reminder_latency_seconds_bucket{le=\"120\"} 1",
        "ai_reminder_latency_seconds_bucket{le=\"+Inf\"} 1",
        "ai_reminder_latency_seconds_count 1",
        "ai_worker_uptime_seconds 0",
        "celery_queue_length{queue_name=\"default\"} 1",
        "celery_workers 0",
        "http_requests_total{method=\"POST\",route=\"/admin/reminders/requeue\",status=\"422\"} 4",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

async fn reminders_are_listed_in_pages(on: On) {
    let api = Api::with(on, &[("RATE_LIMIT_PER_MINUTE", "100")]).await;
    for minute in 1..=7 {
        let message = format!("Remind me to do thing {minute} in {minute} hours");
        assert_eq!(api.post("/chat", json!({ "message": message })).await.0, 200);
    }
    let (_, all) = api.get("/reminders").await;
    let all: Vec<String> = all.as_array().expect("a list").iter().map(|row| row["id"].to_string()).collect();
    assert_eq!(all.len(), 7);
    api.send(user(post(&format!("/reminders/{}/cancel", all[2].trim_matches('"'))))).await;

    let mut path = "/reminders?limit=3".to_owned();
    let mut listed = Vec::new();
    loop {
        let response = api.send(user(get(&path))).await;
        assert_eq!(response.headers()["x-total-count"], "7");
        let (_, page) = parts(&response);
        listed.extend(page.as_array().expect("a list").iter().map(|row| row["id"].to_string()));
        let Some(cursor) = response.headers().get("x-next-cursor") else { break };
        path = format!("/reminders?limit=3&cursor={}", cursor.to_str().expect("text"));
    }
    assert_eq!(listed, all, "the pages are the list, in its order");

    let response = api.send(user(get("/reminders?status=canceled"))).await;
    assert_eq!(response.headers()["x-total-count"], "1");
    assert_eq!(parts(&response).1[0]["id"].to_string(), all[2]);
    for (query, field) in
        [("limit=0", "limit"), ("limit=x", "limit"), ("cursor=7", "cursor"), ("status=open", "status")]
    {
        let (status, body) = api.get(&format!("/reminders?{query}")).await;
        assert_eq!(
            (status, &body["detail"][0]["loc"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!(["query", field]))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_the_client_has_is_not_sent_again() {
    let api = Api::new(On::Sqlite).await;
    api.post("/chat", json!({ "message": "Remind me to stretch in 2 hours" })).await;
    let first = api.send(user(get("/reminders"))).await;
    let tag = first.headers()["etag"].to_str().expect("text").to_owned();
    for known in [tag.clone(), format!("\"other\", {tag}"), "*".to_owned()] {
        let again = api.send(user(get("/reminders")).header("if-none-match", known)).await;
        assert_eq!((again.status(), again.body().len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!(again.headers()["etag"], tag.as_str());
    }
    api.post("/chat", json!({ "message": "Remind me to stretch in 3 hours" })).await;
    assert_eq!(api.send(user(get("/reminders")).header("if-none-match", &tag)).await.status(), 200);
}
