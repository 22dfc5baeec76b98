//! The contract of the HTTP API, on PostgreSQL and on SQLite.

use companion::{Companion, reminders, settings::Settings, store::Demo};
use companion_api::{State, routes};
use compat_tests::{Database, PostgresServer, RedisServer};
use serde_json::{Value, json};
use tempfile::TempDir;
use warp::{
    Filter,
    filters::BoxedFilter,
    http::{Response, StatusCode},
    hyper::body::Bytes,
    reply::Response as Reply,
    test::RequestBuilder,
};

const KEY: &str = "sk-demo-accountability";
const ADMIN: &str = "adm1n-t0ken";

#[derive(Clone, Copy)]
enum On {
    Postgres,
    Sqlite,
}

struct Api {
    routes: BoxedFilter<(Reply,)>,
    companion: Companion,
    redis: RedisServer,
    database: Option<Database>,
    _folder: TempDir,
}

impl Api {
    async fn new(on: On) -> Self {
        Self::with(on, &[("ADMIN_API_KEY", ADMIN)]).await
    }

    async fn with(on: On, vars: &[(&str, &str)]) -> Self {
        let redis = RedisServer::start();
        let folder = TempDir::new().expect("a temporary folder");
        let database = match on {
            On::Postgres => Some(PostgresServer::database()),
            On::Sqlite => None,
        };
        let file = format!("sqlite://{}/companion.db", folder.path().display());
        let url = database.as_ref().map_or(file.as_str(), Database::url);
        let outbox = folder.path().join("outbox.jsonl").display().to_string();
        let base = [
            ("DATABASE_URL", url),
            ("REDIS_URL", &redis.url()),
            ("NOTIFY_FILE", &outbox),
            ("TZ", "Europe/Berlin"),
        ];
        let settings = Settings::from_vars(base.iter().chain(vars).copied()).expect("valid settings");
        let companion = Companion::open(settings).expect("a companion");
        companion.store.migrate().await.expect("migrate");
        companion.store.seed(Demo::Always).await.expect("seed");
        let state = State::new(companion.clone()).expect("a state");
        let routes = routes(state).boxed();
        Self { routes, companion, redis, database, _folder: folder }
    }

    async fn send(&self, request: RequestBuilder) -> Response<Bytes> {
        request.reply(&self.routes).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        parts(&self.send(user(get(path))).await)
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        parts(&self.send(user(post(path)).json(&body)).await)
    }

    async fn refuses_nul(&self, path: &str, field: &str, body: Value) {
        let request = user(post(path)).header("x-admin-token", ADMIN).json(&body);
        let (status, answer) = parts(&self.send(request).await);
        let expected = json!([{ "type": "string_nul", "loc": ["body", field], "msg": "String should not contain NUL characters" }]);
        assert_eq!((status, &answer["detail"]), (StatusCode::UNPROCESSABLE_ENTITY, &expected), "{path}");
    }

    async fn admin(&self, request: RequestBuilder) -> (StatusCode, Value) {
        parts(&self.send(request.header("x-admin-token", ADMIN)).await)
    }

    /// The envelopes that wait in the queue `default`.
    fn queued(&self) -> Vec<Value> {
        let mut list = redis::cmd("LRANGE");
        list.arg("default").arg(0).arg(-1);
        let envelopes: Vec<String> = list.query(&mut self.redis.connection()).expect("redis");
        envelopes.iter().map(|envelope| serde_json::from_str(envelope).expect("JSON")).collect()
    }
}

fn get(path: &str) -> RequestBuilder {
    warp::test::request().method("GET").path(path)
}

fn post(path: &str) -> RequestBuilder {
    warp::test::request().method("POST").path(path)
}

fn user(request: RequestBuilder) -> RequestBuilder {
    request.header("x-api-key", KEY)
}

fn parts(response: &Response<Bytes>) -> (StatusCode, Value) {
    (response.status(), serde_json::from_slice(response.body()).unwrap_or(Value::Null))
}

macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::On::Postgres).await; })*
        }
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::On::Sqlite).await; })*
        }
    };
}

on_both! {
    a_reminder_is_asked_for_listed_and_canceled
    a_chat_answers_with_its_actions
    bad_chat_requests_get_their_clear_errors
    a_push_token_is_set_and_cleared
    chosen_reminders_are_queued_again_by_an_operator
    feature_flags_are_read_and_turned
    health_tells_what_works
    what_is_overdue_shows_in_the_metrics
    a_repeated_request_takes_effect_once
    nul_characters_are_refused_in_every_field
    reminders_are_listed_in_pages
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

async fn a_chat_answers_with_its_actions(on: On) {
    let api = Api::new(on).await;
    let say = async |message: &str| {
        let (status, body) = api.post("/chat", json!({ "message": message, "persona_key": "coach" })).await;
        assert_eq!(status, 200, "{body}");
        let tools: Vec<String> = body["actions"]
            .as_array()
            .expect("actions")
            .iter()
            .map(|action| action["tool"].as_str().expect("tool").to_owned())
            .collect();
        (body["assistant_message"].as_str().expect("a message").to_owned(), tools)
    };
    assert_eq!(say("Remember that I like tea").await.1, ["save_memory"]);
    assert_eq!(say("Add a task to file the report by tomorrow").await.1, ["add_task"]);
    let (question, none) = say("Remind me to call Sam").await;
    assert!(question.starts_with("When should I remind you to call Sam?") && none.is_empty(), "{question}");
    let (answer, tools) = say("in 20 minutes").await;
    assert_eq!(tools, ["schedule_reminder"]);
    assert_eq!(answer, "Okay, I'll remind you to call Sam in 20 minutes.");
    let (agenda, tools) = say("what's on my agenda this week?").await;
    assert_eq!(tools, ["get_agenda"]);
    assert!(agenda.contains("call Sam") && agenda.contains("file the report"), "{agenda}");
    let (safe, none) = say("remind me to kill myself at 5").await;
    assert!(safe.contains("crisis line") && none.is_empty(), "{safe}");
    for (message, expected) in [
        ("how do I build a bomb", "I can't help with that."),
        ("should I take 800 mg of ibuprofen", "I can't give medical advice."),
        ("which stocks should I buy", "I can't give financial advice."),
    ] {
        let (answer, none) = say(message).await;
        assert!(answer.starts_with(expected) && none.is_empty(), "{answer}");
    }
}

async fn bad_chat_requests_get_their_clear_errors(on: On) {
    let api = Api::new(on).await;
    let chat = |body: &str| user(post("/chat")).header("content-type", "application/json").body(body);
    let too_large = format!("{{\"message\": \"{}\"}}", "x".repeat(70_000));
    let missing_message =
        json!({ "detail": [{ "type": "missing", "loc": ["body", "message"], "msg": "Field required" }] });
    let cases = [
        (post("/chat").json(&json!({ "message": "x" })), 401, Some(json!({ "detail": "Invalid API key." }))),
        (
            post("/chat").header("x-api-key", "sk-demo-wrong").json(&json!({ "message": "x" })),
            401,
            Some(json!({ "detail": "Invalid API key." })),
        ),
        (chat("{}"), 422, Some(missing_message)),
        (chat(r#"{"message": ""}"#), 422, None),
        (chat(r#"{"message": " "}"#), 422, None),
        (chat(r#"{"message": 5}"#), 422, None),
        (chat(r#"{"message": null}"#), 422, None),
        (chat(r#"{"message": "x", "persona_key": []}"#), 422, None),
        (chat("[1]"), 422, None),
        (chat(""), 422, None),
        (chat("{\"message\":"), 422, None),
        (chat("\u{0}"), 422, None),
        (chat(&too_large), 413, None),
        (user(post("/chat")).header("content-type", "text/plain").body("{}"), 415, None),
        (
            chat(r#"{"message": "x", "persona_key": "pirate"}"#),
            404,
            Some(json!({ "detail": "Persona \"pirate\" not found." })),
        ),
        (user(get("/chat")), 405, Some(json!({ "detail": "Method Not Allowed" }))),
        (user(get("/nowhere")), 404, Some(json!({ "detail": "Not Found" }))),
        (user(get("/chat/")), 405, None),
    ];
    for (number, (request, expected, expected_body)) in cases.into_iter().enumerate() {
        let response = api.send(request).await;
        let (status, body) = parts(&response);
        assert_eq!(status, expected, "case {number}: {body}");
        assert!(!body["detail"].is_null(), "case {number}: {body}");
        assert!(response.headers().contains_key("x-request-id"), "case {number}");
        if let Some(expected_body) = expected_body {
            assert_eq!(body, expected_body, "case {number}");
        }
        if status == 422 {
            let problem = &body["detail"][0];
            assert!(
                problem["loc"].is_array() && problem["msg"].is_string() && problem["type"].is_string(),
                "{body}"
            );
        }
    }
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

async fn health_tells_what_works(on: On) {
    let mut api = Api::new(on).await;
    assert_eq!(api.get("/health").await, (StatusCode::OK, json!({ "status": "ok" })));
    let expected =
        json!({ "db": "ok", "redis": "ok", "celery": "fail: no workers", "beat": "fail: no beat" });
    assert_eq!(api.get("/healthz").await, (StatusCode::OK, expected));
    let () = redis::cmd("SET")
        .arg(&["redbeat::lock", "held", "PX", "60000"])
        .query(&mut api.redis.connection())
        .expect("redis");
    until(&api, "a beat is seen", |body| body["beat"] == "ok").await;
    api.companion.metrics.snapshot().await.expect("counters");

    api.redis.kill();
    until(&api, "redis is away", |body| body["redis"] == "fail: connection refused").await;
    let (status, body) = api.get("/healthz").await;
    assert_eq!((status, &body["db"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("ok")));
    for part in ["redis", "celery", "beat"] {
        let said = body[part].as_str().expect("text");
        assert!(
            said.starts_with("fail: ") && !said.contains("127.0.0.1") && !said.contains("redis:"),
            "{body}"
        );
    }
    let (status, body) = api.post("/chat", json!({ "message": "Remind me to rest in 1 minute" })).await;
    assert_eq!(status, 200, "chat goes on without Redis: {body}");
    compat_tests::eventually_async("the reminder to be counted", compat_tests::secs(10), async || {
        let (status, body) = api.get("/metrics/basic").await;
        assert_eq!(status, 200, "the counters are there without Redis");
        body["counters"]["reminder_scheduled"] == 1
    })
    .await;
    let metrics = api.send(get("/metrics")).await;
    let text = String::from_utf8_lossy(metrics.body()).into_owned();
    for line in
        ["ai_redis_up 0", "ai_database_up 1", "ai_beat_up 0", "ai_reminder_total{status=\"scheduled\"} 1"]
    {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    api.redis.restart();
    until(&api, "redis is well again", |body| body["redis"] == "ok").await;
    if let Some(database) = &api.database {
        database.execute("DROP TABLE users CASCADE");
        let (status, body) = api.get("/reminders").await;
        let expected = json!({ "detail": "Internal Server Error" });
        assert_eq!((status, body), (StatusCode::INTERNAL_SERVER_ERROR, expected));
        database.execute("DROP TABLE companion_migrations");
        until(&api, "it says that the schema is missing", |body| {
            body["db"].as_str().is_some_and(|said| said.starts_with("fail: not migrated (0001_contract, "))
        })
        .await;
        assert_eq!(api.get("/healthz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }
}

async fn until(api: &Api, what: &str, condition: impl Fn(&Value) -> bool) {
    compat_tests::eventually_async(what, compat_tests::secs(20), async || {
        let (_, body) = api.get("/healthz").await;
        if condition(&body) { Ok(()) } else { Err(body.to_string()) }
    })
    .await;
}

/// How late the oldest reminder is shows without any traffic.
async fn what_is_overdue_shows_in_the_metrics(on: On) {
    let api = Api::new(on).await;
    let user = api.companion.store.user_by_email("demo@example.com").await.expect("database").expect("user");
    let overdue = async |state: &str, expected: std::ops::Range<i64>| {
        let start = format!("ai_reminder_oldest_overdue_seconds{{state=\"{state}\"}} ");
        compat_tests::eventually_async(&format!("{start}{expected:?}"), compat_tests::secs(20), async || {
            let text = String::from_utf8_lossy(api.send(get("/metrics")).await.body()).into_owned();
            let value = text.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned);
            let value: i64 = value.ok_or("no such line")?.parse().map_err(|_| "no number")?;
            if expected.contains(&value) { Ok(()) } else { Err("another value") }
        })
        .await;
    };
    overdue("waiting", 0..1).await;
    let new = companion::store::NewReminder {
        user_id: user.id,
        text: "late".to_owned(),
        due: chrono::Utc::now() - chrono::Duration::seconds(300),
        original_phrase: None,
        correlation_id: "test".to_owned(),
    };
    let id = reminders::create(&api.companion, &new).await.expect("a reminder");
    overdue("waiting", 300..400).await;
    overdue("retrying", 0..1).await;
    if let Some(database) = &api.database {
        database.execute("UPDATE reminders SET delivery_attempts = 1");
        overdue("waiting", 0..1).await;
        overdue("retrying", 300..400).await;
    }
    reminders::cancel(&api.companion, &user, id).await.expect("cancel");
    overdue("waiting", 0..1).await;
}

/// The rules ask for nothing that is not there.
#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_alerts_is_exported() {
    let api = Api::new(On::Sqlite).await;
    api.post("/chat", json!({ "message": "hello" })).await;
    let text = String::from_utf8_lossy(api.send(get("/metrics")).await.body()).into_owned();
    let exported: Vec<&str> = text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let rules =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/prometheus/alerts.yaml"))
            .expect("the rules");
    let names = rules.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let is_metric = |name: &&str| ["ai_", "celery_", "http_"].iter().any(|prefix| name.starts_with(prefix));
    let asked: std::collections::BTreeSet<&str> = names.filter(is_metric).collect();
    assert!(asked.len() >= 9, "{asked:?}");
    for name in asked {
        assert!(exported.contains(&name), "{name} is not in {text}");
    }
}

/// Whoever asks, and however often, causes one ping a second.
#[tokio::test(flavor = "multi_thread")]
async fn all_who_ask_within_a_second_cause_one_ping() {
    let api = Api::new(On::Sqlite).await;
    let started = std::time::Instant::now();
    let ask = async |path: &'static str| api.send(get(path)).await.status();
    let asks = (0..200).map(|number| ask(if number % 2 == 0 { "/healthz" } else { "/metrics" }));
    assert!(futures_util::future::join_all(asks).await.iter().all(|status| *status == 200));
    let statistics: String =
        redis::cmd("INFO").arg("commandstats").query(&mut api.redis.connection()).expect("redis");
    let publishes = statistics
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_publish:calls="))
        .and_then(|rest| rest.split(',').next()?.parse::<u64>().ok())
        .unwrap_or(0);
    assert!((1..=2 + started.elapsed().as_secs()).contains(&publishes), "{publishes} pings");
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

#[tokio::test(flavor = "multi_thread")]
async fn chats_tell_what_is_left_of_the_limit_in_a_window_that_slides() {
    let api = Api::with(On::Sqlite, &[("RATE_LIMIT_PER_MINUTE", "3"), ("RATE_LIMIT_PER_HOUR", "4")]).await;
    let chat = async || {
        let response = api.send(user(post("/chat")).json(&json!({ "message": "hello" }))).await;
        let header =
            |name: &str| response.headers()[name].to_str().expect("text").parse::<u64>().expect("a number");
        let names = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
        (response.status().as_u16(), names.map(header))
    };
    for remaining in [2, 1, 0] {
        let (status, [limit, left, reset]) = chat().await;
        assert_eq!((status, limit, left), (200, 3, remaining));
        assert!((1..=60).contains(&reset), "{reset}");
    }
    assert_eq!(chat().await.0, 429);
    // As if the three had come 59 s ago, then 61 s ago: a fixed window would have begun anew with the first of them.
    let mut redis = api.redis.connection();
    let key: String = redis::cmd("KEYS")
        .arg("rate_limit:chat:*")
        .query::<Vec<String>>(&mut redis)
        .expect("redis")
        .remove(0);
    let mut shift = |seconds: i64| {
        let members: Vec<String> =
            redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).query(&mut redis).expect("redis");
        for member in members {
            redis::cmd("ZINCRBY").arg(&key).arg(-1000 * seconds).arg(member).exec(&mut redis).expect("redis");
        }
    };
    shift(45);
    assert_eq!(chat().await.0, 429, "the minute is not over");
    shift(20);
    let (status, [limit, left, _]) = chat().await;
    assert_eq!((status, limit, left), (200, 4, 0), "the hour has room for one more");
    let (status, [limit, _, reset]) = chat().await;
    assert_eq!((status, limit), (429, 4));
    assert!(reset > 3000, "{reset}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_eleventh_chat_within_a_minute_is_limited_and_others_are_not() {
    let api = Api::new(On::Sqlite).await;
    for _ in 0..10 {
        assert_eq!(api.post("/chat", json!({ "message": "hello" })).await.0, 200);
    }
    let response = api.send(user(post("/chat")).json(&json!({ "message": "hello" }))).await;
    let (status, body) = parts(&response);
    assert_eq!((status, &body["detail"]["error"]), (StatusCode::TOO_MANY_REQUESTS, &json!("rate_limited")));
    let seconds = body["detail"]["retry_after_seconds"].as_u64().expect("seconds");
    assert!((1..=60).contains(&seconds), "{body}");
    assert_eq!(response.headers()["retry-after"], seconds.to_string().as_str());
    assert_eq!(api.get("/reminders").await.0, 200, "only the chat is limited");
    let store = &api.companion.store;
    store.insert_user("other@example.com", None).await.expect("user");
    let other = store.user_by_email("other@example.com").await.expect("database").expect("user");
    companion::auth::register(store, other.id, "sk-other-key").await.expect("key");
    let request = post("/chat").header("x-api-key", "sk-other-key").json(&json!({ "message": "hello" }));
    assert_eq!(api.send(request).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_has_its_limit_too() {
    let vars = [("RATE_LIMIT_PER_MINUTE", "100"), ("RATE_LIMIT_PER_HOUR", "3")];
    let api = Api::with(On::Sqlite, &vars).await;
    for _ in 0..3 {
        assert_eq!(api.post("/chat", json!({ "message": "hello" })).await.0, 200);
    }
    let (status, body) = api.post("/chat", json!({ "message": "hello" })).await;
    assert_eq!(status, 429);
    assert!(body["detail"]["retry_after_seconds"].as_u64().expect("seconds") > 3000, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_told_and_comes_back() {
    let mut server = PostgresServer::start();
    let database = server.create_database();
    let redis = RedisServer::start();
    let vars = [("DATABASE_URL", database.url()), ("REDIS_URL", &redis.url()), ("NOTIFY_FILE", "")];
    let companion = Companion::open(Settings::from_vars(vars).expect("valid")).expect("a companion");
    companion.store.migrate().await.expect("migrate");
    companion.store.seed(Demo::Always).await.expect("seed");
    let routes = routes(State::new(companion).expect("a state"));
    let ask = async |request: RequestBuilder| parts(&request.reply(&routes).await);
    assert_eq!(ask(user(get("/reminders"))).await.0, 200);
    server.kill();
    let asked = std::time::Instant::now();
    let (status, body) = ask(get("/healthz")).await;
    assert_eq!((status, &body["redis"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("ok")));
    assert_eq!(body["db"], "fail: connection refused", "after {:?}", asked.elapsed());
    let (status, body) = ask(user(get("/reminders"))).await;
    assert_eq!(status, 503);
    assert_eq!(body["detail"], "The database is not available, please try again.");
    server.restart();
    compat_tests::eventually_async("the database to be well again", compat_tests::secs(15), async || {
        ask(user(get("/reminders"))).await.0 == 200
    })
    .await;
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
