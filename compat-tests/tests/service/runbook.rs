//! Each command of docs/RUNBOOK.md, as typed in the api container, in a folder laid out like its image.

use crate::stack::{ADMIN_KEY, On, SEND_DUE, SOON, Stack, answer};
use compat_tests::{eventually, run, secs, workspace_root};
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test]
async fn reminders_are_queued_by_poetry_run_celery_call() {
    let stack = Stack::new(On::Sqlite);
    let (_api, _worker) = stack.start_api_and_worker().await;
    stack.make_due(1);
    let (_, list) = stack.get("/reminders").await;
    let reminder = list[0]["id"].as_str().expect("the reminder").to_owned();
    let task = stack.exec(&format!("poetry run celery -A app.celery_app call {SEND_DUE}")).run().success();
    assert_eq!(
        stack.exec(&format!("poetry run celery -A app.celery_app result {task}")).run().success(),
        "1"
    );
    stack.await_status(&reminder, "sent").await;
}

#[tokio::test]
async fn reminders_are_queued_by_python_m() {
    let stack = Stack::new(On::Sqlite);
    let (_api, _worker) = stack.start_api_and_worker().await;
    stack.make_due(1);
    let (_, list) = stack.get("/reminders").await;
    let reminder = list[0]["id"].as_str().expect("the reminder").to_owned();
    stack.exec("python -m app.tasks.reminders.send_due_reminders").run().success();
    stack.await_status(&reminder, "sent").await;
}

#[tokio::test]
async fn chosen_reminders_are_queued_by_id_and_none_is_sent_twice() {
    let stack = Stack::new(On::Sqlite);
    let (_api, _worker) = stack.start_api_and_worker().await;
    let (one, two) = (stack.remind("stretch in 1 second").await, stack.remind("rest in 1 second").await);
    stack.await_due(&two).await;
    let command = format!("python -m app.tasks.reminders.deliver_reminder {one} {two} --wait 20");
    let said = stack.exec(&command).run().success();
    assert_eq!(said.lines().filter(|line| *line == "True").count(), 2, "{said}");
    stack.await_status(&one, "sent").await;
    stack.await_status(&two, "sent").await;
    assert_eq!(stack.exec(&command).run().success().lines().filter(|line| *line == "True").count(), 2);
    assert_eq!(stack.deliveries().len(), 2);
    let none =
        "python -m app.tasks.reminders.deliver_reminder 00000000-0000-4000-8000-000000000000 --wait 20";
    assert!(stack.exec(none).run().success().ends_with("False"));
}

#[tokio::test]
async fn chosen_reminders_are_queued_by_one_http_call() {
    let stack = Stack::new(On::Sqlite);
    let (_api, _worker) = stack.start_api_and_worker().await;
    let reminder = stack.remind("stretch in 1 second").await;
    stack.await_due(&reminder).await;
    let call = || stack.request(Method::POST, "/admin/reminders/requeue").json(&json!({"ids": [reminder]}));
    let (status, body) = answer(call()).await.unwrap();
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    let (status, body) = answer(call().header("X-Admin-Token", ADMIN_KEY)).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    stack.await_status(&reminder, "sent").await;
}

#[tokio::test]
async fn alembic_upgrade_head_migrates_an_empty_database_and_may_be_repeated() {
    let server = compat_tests::PostgresServer::start();
    let stack = Stack::on_server(&server);
    stack.exec("alembic upgrade head").run().success();
    assert_eq!(stack.sql("SELECT count(*) FROM reminders"), "0");
    stack.exec("alembic upgrade head").run().success();
}

#[tokio::test]
async fn a_dead_worker_shows_in_healthz_and_a_restarted_one_drains_the_queue() {
    let stack = Stack::new(On::Sqlite);
    let (_api, mut worker) = stack.start_api_and_worker().await;
    worker.kill();
    stack.await_health("ok", "ok", "fail: no workers").await;
    let reminder = stack.remind("stretch in 1 second").await;
    stack.await_due(&reminder).await;
    for _ in 0..3 {
        stack.exec("python -m app.tasks.reminders.send_due_reminders").run().success();
    }
    let _worker = stack.start("companion-worker");
    stack.await_health("ok", "ok", "ok").await;
    stack.await_status(&reminder, "sent").await;
    assert_eq!(stack.deliveries().len(), 1, "sent once, however often it was queued");
    let mut redis = stack.redis.connection();
    eventually("the queue is drained", SOON, || -> redis::RedisResult<bool> {
        Ok(redis::cmd("LLEN").arg("default").query::<i64>(&mut redis)? == 0)
    });
}

#[tokio::test]
async fn celery_inspect_ping_sees_the_worker() {
    let stack = Stack::new(On::Sqlite);
    let (_api, _worker) = stack.start_api_and_worker().await;
    let said = stack.exec("poetry run celery -A app.celery_app inspect ping").run().success();
    assert!(said.contains("pong") && said.contains("1 node online"), "{said}");
}

#[test]
fn a_program_without_its_settings_names_them_and_fails() {
    let stack = Stack::new(On::Sqlite);
    for program in ["companion-api", "companion-worker", "companion-beat"] {
        let mut command = stack.command(program);
        command
            .env("APP_ENV", "production")
            .env_remove("REDIS_URL")
            .env("APP_DATABASE__URL", "mysql://nowhere");
        command.env("API_PORT", "eighty");
        let said = run(&command, secs(20)).failure();
        for name in ["REDIS_URL", "APP_DATABASE__URL", "API_PORT"] {
            assert!(said.contains(name), "{program} should name {name}: {said}");
        }
    }
}

#[tokio::test]
async fn messages_of_a_killed_worker_are_recovered_before_a_rollback() {
    let stack = Stack::new(On::Sqlite);
    let mut redis = stack.redis.connection();
    let message = json!({
        "body": "W1tdLCB7fSwge31d", "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": "app.celery_app.ping", "id": "held", "root_id": "held"},
        "properties": {
            "correlation_id": "held", "delivery_mode": 2, "delivery_tag": "held", "body_encoding": "base64", "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": "default"},
        },
    });
    let () = redis::pipe()
        .cmd("LPUSH")
        .arg("celeriac.inflight.killed.0")
        .arg(message.to_string())
        .ignore()
        .cmd("ZADD")
        .arg("celeriac.inflight")
        .arg(1)
        .arg("killed")
        .ignore()
        .query(&mut redis)
        .unwrap();
    let recover = format!("poetry run celeriac recover --wait -b {}", stack.redis.url());
    assert_eq!(stack.exec(&recover).run().success(), "restored 1");
    let waiting: i64 = redis::cmd("LLEN").arg("default").query(&mut redis).unwrap();
    assert_eq!(waiting, 1);
    assert_eq!(stack.exec(&recover).run().success(), "restored 0");
}

/// Whoever is paged follows the link of the alert.
#[test]
fn the_links_of_the_alerts_lead_into_the_runbook() {
    let read = |path: &str| std::fs::read_to_string(workspace_root().join(path)).expect("the file");
    let (alerts, runbook) = (read("infra/prometheus/alerts.yaml"), read("docs/RUNBOOK.md"));
    // As GitHub makes them of headings.
    let anchor = |heading: &str| -> String {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .collect::<String>()
            .replace(' ', "-")
    };
    let anchors: Vec<String> = runbook.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    let links: Vec<&str> =
        alerts.split("docs/RUNBOOK.md#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.len() > 5, "{links:?}");
    for link in links {
        assert!(anchors.iter().any(|anchor| anchor == link), "no heading {link} among {anchors:?}");
    }
}
