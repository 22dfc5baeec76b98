//! Requests of any kind: methods, ids, repetitions, characters that no field takes.

use serde_json::{Value, json};
use warp::http::StatusCode;

use crate::support::{ADMIN, Api, On, get, on_both, parts, post, user};
on_both! {
    nul_characters_are_refused_in_every_field
    a_repeated_request_takes_effect_once
}

/// PostgreSQL keeps none, so that they would be an error of the service.
async fn nul_characters_are_refused_in_every_field(on: On) {
    let api = Api::with(on, &[("ADMIN_API_KEY", ADMIN)]).await;
    api.refuses_nul("/chat", "message", json!({ "message": "remind me\0 in 5 minutes" })).await;
    api.refuses_nul("/chat", "persona_key", json!({ "message": "hello", "persona_key": "co\0ach" })).await;
    api.refuses_nul("/users/push-token", "push_token", json!({ "push_token": "Expo\0nent" })).await;
    api.refuses_nul("/admin/features", "key", json!({ "key": "voice\0mode", "enabled": true })).await;
    for path in ["/reminders/%00/cancel", "/reminders/a%00b/cancel"] {
        let status = api.send(user(post(path))).await.status();
        assert!(status.is_client_error(), "{path}: {status}");
    }
}

/// A client that does not know whether its request arrived asks again.
async fn a_repeated_request_takes_effect_once(on: On) {
    let api = Api::with(on, &[("ADMIN_API_KEY", ADMIN), ("RATE_LIMIT_PER_MINUTE", "4")]).await;
    let say = async |key: &str, words: &str| {
        let request = user(post("/chat")).header("idempotency-key", key).json(&json!({ "message": words }));
        api.send(request).await
    };
    let words = "Remind me to stretch in 10 minutes";
    let both = futures_util::future::join_all((0..5).map(|_| say("one", words))).await;
    assert!(both.iter().all(|answer| [200, 409].contains(&answer.status().as_u16())), "{both:?}");
    let first = say("one", words).await;
    assert_eq!(first.headers()["idempotency-replayed"], "true");
    for answer in both.iter().filter(|answer| answer.status() == 200) {
        assert_eq!(parts(answer), parts(&first));
    }
    assert_eq!(api.get("/reminders").await.1.as_array().map(Vec::len), Some(1));
    assert_eq!(say("one", "Remind me to rest in 10 minutes").await.status(), 422, "another request");
    assert_eq!(say("two", words).await.status(), 200);
    assert_eq!(api.get("/reminders").await.1.as_array().map(Vec::len), Some(2));
    assert_eq!(say(&"x".repeat(256), words).await.status(), 400);

    // Another user's key of the same name is another one.
    let store = &api.companion.store;
    store.insert_user("other@example.com", None).await.expect("user");
    let other = store.user_by_email("other@example.com").await.expect("database").expect("user");
    companion::auth::register(store, other.id, "sk-other-key").await.expect("key");
    let request = post("/chat").header("x-api-key", "sk-other-key").header("idempotency-key", "one");
    let answer = api.send(request.json(&json!({ "message": words }))).await;
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key("idempotency-replayed"));

    // Every POST takes a key, an operator's too.
    let admin = async |path: &str, body: Value| {
        let request = post(path).header("x-admin-token", ADMIN).header("idempotency-key", "one");
        api.send(request.json(&body)).await
    };
    let flag = json!({ "key": "voice_mode", "enabled": true });
    let refused = api.send(post("/admin/features").header("idempotency-key", "one").json(&flag)).await;
    assert_eq!(refused.status(), 401, "a key opens nothing");
    let first = admin("/admin/features", flag.clone()).await;
    assert_eq!(first.status(), 200);
    let again = admin("/admin/features", flag).await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(parts(&again), parts(&first));
    let ids = json!({ "ids": [api.get("/reminders").await.1[0]["id"].clone()] });
    assert_eq!(admin("/admin/reminders/requeue", ids).await.status(), 422, "the key of another request");

    // What was refused may be repeated.
    let mut limited = 0;
    for number in 0..6 {
        limited += u32::from(say(&format!("more-{number}"), words).await.status() == 429);
    }
    assert!(limited > 0);
    let before = api.get("/reminders").await.1.as_array().map(Vec::len);
    assert_eq!(
        say("more-5", words).await.status(),
        429,
        "refused again rather than answered with the refusal"
    );
    assert_eq!(api.get("/reminders").await.1.as_array().map(Vec::len), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_tells_its_methods() {
    let api = Api::with(On::Sqlite, &[("ADMIN_API_KEY", ADMIN)]).await;
    let reminder = "/reminders/00000000-0000-4000-8000-000000000000/cancel";
    for (path, allow) in [
        ("/health", "GET, HEAD, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
        ("/metrics/basic", "GET, HEAD, OPTIONS"),
        ("/chat", "POST, OPTIONS"),
        ("/reminders", "GET, HEAD, OPTIONS"),
        (reminder, "POST, OPTIONS"),
        ("/users/push-token", "POST, OPTIONS"),
        ("/admin/queues", "GET, HEAD, OPTIONS"),
        ("/admin/workers", "GET, HEAD, OPTIONS"),
        ("/admin/reminders", "GET, HEAD, OPTIONS"),
        ("/admin/reminders/requeue", "POST, OPTIONS"),
        ("/admin/features", "GET, POST, HEAD, OPTIONS"),
        ("/admin/schedule", "GET, POST, HEAD, OPTIONS"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let response = api.send(warp::test::request().method(method).path(path)).await;
            if !allow.split(", ").any(|allowed| allowed == method) {
                assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
                assert_eq!(parts(&response).1["detail"], "Method Not Allowed");
            }
            if response.status() == StatusCode::METHOD_NOT_ALLOWED || method == "OPTIONS" {
                assert_eq!(response.headers()["allow"], allow, "{method} {path}");
            }
            assert_ne!(response.status(), StatusCode::NOT_FOUND, "{method} {path}");
            assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{method} {path}");
        }
    }
    assert_eq!(api.send(warp::test::request().method("OPTIONS").path("/nowhere")).await.status(), 404);
}

#[tokio::test]
async fn request_ids_that_cannot_be_repeated_are_replaced() {
    let api = Api::new(On::Sqlite).await;
    for bad in ["", "has space", &"x".repeat(129)] {
        let response = api.send(get("/health").header("x-request-id", bad)).await;
        let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
        assert_eq!(id.len(), 36, "{bad:?} became {id:?}");
    }
    let response = api.send(get("/nowhere").header("x-request-id", "mine")).await;
    assert_eq!(response.headers()["x-request-id"], "mine");
}
