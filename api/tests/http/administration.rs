//! Push tokens, feature flags and the schedule.

use serde_json::json;
use warp::http::StatusCode;

use crate::support::{ADMIN, Api, KEY, On, get, on_both, parts, post};
on_both! {
    a_push_token_is_set_and_cleared
    feature_flags_are_read_and_turned
}

async fn a_push_token_is_set_and_cleared(on: On) {
    let api = Api::new(on).await;
    let token = async || {
        let user =
            api.companion.store.user_by_email("demo@example.com").await.expect("database").expect("user");
        user.push_token
    };
    let ok = (StatusCode::OK, json!({ "status": "ok" }));
    assert_eq!(api.post("/users/push-token", json!({ "push_token": "ExponentPushToken[x]" })).await, ok);
    assert_eq!(token().await.as_deref(), Some("ExponentPushToken[x]"));
    assert_eq!(api.post("/users/push-token", json!({ "push_token": null })).await, ok);
    assert_eq!(token().await, None);
    assert_eq!(api.post("/users/push-token", json!({})).await.0, 422);
    assert_eq!(api.post("/users/push-token", json!({ "push_token": "x".repeat(256) })).await.0, 422);
}

async fn feature_flags_are_read_and_turned(on: On) {
    let api = Api::with(on, &[("ADMIN_API_KEY", ADMIN), ("FEATURE_FLAG_VOICE_MODE", "on")]).await;
    for request in [
        get("/admin/features"),
        get("/admin/queues").header("x-admin-token", "wrong"),
        get("/admin/workers").header("x-api-key", KEY),
    ] {
        assert_eq!(parts(&api.send(request).await).0, 401);
    }
    let set = post("/admin/features").json(&json!({ "key": "calendar_integration", "enabled": true }));
    let (status, flag) = api.admin(set).await;
    assert_eq!((status, &flag["enabled"]), (StatusCode::OK, &json!(true)));
    let (_, all) = api.admin(get("/admin/features")).await;
    let enabled = |key: &str| {
        let flags = all["features"].as_array().expect("a list");
        flags.iter().find(|flag| flag["key"] == key).expect("the flag")["enabled"].clone()
    };
    assert_eq!(enabled("calendar_integration"), true);
    assert_eq!(enabled("voice_mode"), true, "the environment wins");
    assert_eq!(enabled("multi_channel_notifications"), false);
    let bad = post("/admin/features").json(&json!({ "key": "", "enabled": "yes" }));
    let (status, problems) = api.admin(bad).await;
    assert_eq!(
        (status, problems["detail"].as_array().map(Vec::len)),
        (StatusCode::UNPROCESSABLE_ENTITY, Some(2))
    );
    let closed = Api::with(on, &[]).await;
    assert_eq!(closed.admin(get("/admin/features")).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_is_shown_and_entries_are_sent_paused_and_resumed() {
    let api = Api::with(On::Sqlite, &[("ADMIN_API_KEY", ADMIN)]).await;
    let definition = json!({ "name": "daily", "task": "proj.daily", "options": { "queue": "default" }, "enabled": true,
                             "schedule": { "__type__": "interval", "every": 86400, "relative": false } });
    let mut redis = api.redis.connection();
    let () = redis::pipe()
        .hset("redbeat:daily", "definition", definition.to_string())
        .zadd("redbeat::schedule", "redbeat:daily", 1_900_000_000)
        .query(&mut redis)
        .expect("redis");
    let act = |action: &str| post("/admin/schedule").json(&json!({ "entry": "daily", "action": action }));
    let (_, sent) = api.admin(act("run")).await;
    let queued = api.queued();
    assert_eq!(
        (&queued[0]["headers"]["id"], &queued[0]["headers"]["task"]),
        (&sent["task_id"], &json!("proj.daily"))
    );
    assert_eq!(api.admin(act("pause")).await.1, json!({ "entry": "daily", "enabled": false }));
    let (_, schedule) = api.admin(get("/admin/schedule")).await;
    assert_eq!(schedule["entries"][0]["enabled"], false);
    assert_eq!(api.admin(act("resume")).await.1["enabled"], true);
    assert_eq!(api.admin(act("dance")).await.0, 422);
    let nobody = post("/admin/schedule").json(&json!({ "entry": "nobody", "action": "run" }));
    assert_eq!(api.admin(nobody).await.0, 404);
    assert_eq!(parts(&api.send(get("/admin/schedule")).await).0, 401);
}
