//! Health and metrics.

use companion::{Companion, reminders, settings::Settings, store::Demo};
use companion_api::{State, routes};
use compat_tests::{PostgresServer, RedisServer};
use serde_json::{Value, json};
use warp::http::StatusCode;
use warp::test::RequestBuilder;

use crate::support::{Api, On, get, on_both, parts, user};
on_both! {
    health_tells_what_works
    what_is_overdue_shows_in_the_metrics
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
