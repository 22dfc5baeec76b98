//! Every incident of docs/RUNBOOK.md, played in the middle of a backlog: the promised signal comes, the promised step repairs it,
//! nothing is lost, nothing is sent twice, and the counts add up.
//!
//! `INCIDENT_BACKLOG=10000` plays them with so many reminders. What was measured is printed as a row of the runbook's table.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::stack::{On, SOON, Stack, answer};
use compat_tests::{PostgresServer, Process, PythonEnv, eventually_async, run, secs, size};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const SCAN: &str = "python -m app.tasks.reminders.send_due_reminders";

/// How long the whole backlog may take on a busy machine; the claims and leases of what was killed end within it.
fn patience(backlog: usize) -> Duration {
    secs(420) + Duration::from_millis(50) * u32::try_from(backlog).expect("a backlog of that size")
}

fn backlog() -> usize {
    size("INCIDENT_BACKLOG", 200)
}

/// What was seen of an incident.
struct Seen {
    name: &'static str,
    on: On,
    signal: Duration,
    repair: Duration,
    last: Duration,
}

impl Seen {
    /// Checks what became of the backlog, and prints the row.
    async fn check(&self, stack: &Stack, backlog: usize, workers: &[&Process]) {
        check_all_sent_once(stack, backlog).await;
        self.print(backlog, workers);
    }

    fn print(&self, backlog: usize, workers: &[&Process]) {
        // Each message is run at least once; one that a killed worker had in hand may be run again.
        let runs: usize = workers.iter().map(|worker| worker.lines_with("Delivery of reminder").len()).sum();
        let in_hand = if backlog < 10_000 { 200 } else { 0 };
        assert!(runs <= backlog + backlog / 100 + in_hand, "{runs} runs for {backlog} reminders");
        let Self { name, on, signal, repair, last } = self;
        println!(
            "| {name} | {on:?} | {backlog} | {:.1} s | {:.1} s | {:.1} s | 0 | 0 | {:.4} |",
            signal.as_secs_f64(),
            repair.as_secs_f64(),
            last.as_secs_f64(),
            runs as f64 / backlog as f64
        );
    }
}

/// Waits until `/healthz` says this of a part, and returns how long it took.
async fn await_part(stack: &Stack, part: &str, said: impl Fn(&str) -> bool) -> Duration {
    let start = Instant::now();
    eventually_async(&format!("/healthz tells of {part}"), SOON, async || {
        let (_, health) =
            answer(stack.request(Method::GET, "/healthz")).await.map_err(|error| error.to_string())?;
        if said(health[part].as_str().unwrap_or_default()) { Ok(()) } else { Err(health.to_string()) }
    })
    .await;
    start.elapsed()
}

/// Waits until so many reminders were delivered, and returns how long it took.
async fn await_delivered(stack: &Stack, count: usize) -> Duration {
    let start = Instant::now();
    eventually_async(&format!("{count} deliveries"), patience(count), async || {
        let delivered = stack.delivered();
        if delivered >= count { Ok(()) } else { Err(format!("{delivered} so far")) }
    })
    .await;
    start.elapsed()
}

/// Nothing is lost, nothing is sent twice, and the counts say the same.
async fn check_all_sent_once(stack: &Stack, count: usize) {
    let deliveries = stack.deliveries();
    let different: HashSet<&str> =
        deliveries.iter().filter_map(|delivery| delivery["reminder_id"].as_str()).collect();
    assert_eq!((deliveries.len(), different.len()), (count, count), "all of them, each once");
    // The lease of a killed worker ends before another one records what it had sent.
    eventually_async("the counts add up", secs(90), async || {
        let sent = stack.counter("reminder_sent").await;
        if sent == count as f64 { Ok(()) } else { Err(format!("reminder_sent is {sent}")) }
    })
    .await;
    assert_eq!(stack.counter("reminder_latency_count").await, count as f64);
    assert_eq!(stack.counter("reminder_scheduled").await, count as f64);
}

async fn a_worker_is_killed(on: On) {
    let (stack, backlog) = (Stack::new(on), backlog());
    let (_api, mut worker) = stack.start_api_and_worker().await;
    let _beat = stack.start("companion-beat");
    stack.make_due(backlog);
    stack.exec(SCAN).run().success();
    await_delivered(&stack, backlog / 10).await;

    worker.kill();
    let signal = await_part(&stack, "celery", |said| said == "fail: no workers").await;
    let restarted = Instant::now();
    let second = stack.start("companion-worker");
    let repair = await_part(&stack, "celery", |said| said == "ok").await;
    stack.exec(SCAN).run().success();
    await_delivered(&stack, backlog).await;
    let seen = Seen { name: "worker killed", on, signal, repair, last: restarted.elapsed() };
    seen.check(&stack, backlog, &[&worker, &second]).await;
}

async fn an_api_is_killed(on: On) {
    let (stack, backlog) = (Stack::new(on), backlog());
    let (mut api, worker) = stack.start_api_and_worker().await;
    let _beat = stack.start("companion-beat");
    stack.make_due(backlog);
    stack.exec(SCAN).run().success();
    await_delivered(&stack, backlog / 10).await;

    api.kill();
    let killed = Instant::now();
    eventually_async("nobody answers", SOON, async || {
        stack.request(Method::GET, "/health").send().await.is_err()
    })
    .await;
    let signal = killed.elapsed();
    let restarted = Instant::now();
    let _api = stack.start("companion-api");
    eventually_async("the api answers", SOON, async || {
        stack.request(Method::GET, "/health").send().await.is_ok()
    })
    .await;
    let repair = restarted.elapsed();
    await_delivered(&stack, backlog).await;
    let seen = Seen { name: "api killed", on, signal, repair, last: restarted.elapsed() };
    seen.check(&stack, backlog, &[&worker]).await;
}

async fn beat_is_killed(on: On) {
    let (stack, backlog) = (Stack::new(on), backlog());
    let (_api, worker) = stack.start_api_and_worker().await;
    let mut beat = stack.start("companion-beat");
    await_part(&stack, "beat", |said| said == "ok").await;
    stack.make_due(backlog);
    stack.exec(SCAN).run().success();
    await_delivered(&stack, backlog / 10).await;

    beat.kill();
    let signal = await_part(&stack, "beat", |said| said == "fail: no beat").await;
    let metrics = stack.request(Method::GET, "/metrics").send().await.expect("the api answers");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.lines().any(|line| line == "ai_beat_up 0"), "{metrics}");
    let restarted = Instant::now();
    let mut beat = stack.start("companion-beat");
    let repair = await_part(&stack, "beat", |said| said == "ok").await;
    await_delivered(&stack, backlog).await;
    let seen = Seen { name: "beat killed", on, signal, repair, last: restarted.elapsed() };
    seen.check(&stack, backlog, &[&worker]).await;

    // The schedule goes on; without beat, reminders are queued by hand.
    stack.make_due(1);
    await_delivered(&stack, backlog + 1).await;
    beat.kill();
    stack.make_due(1);
    stack
        .exec("poetry run celery -A app.celery_app call app.tasks.reminders.send_due_reminders")
        .run()
        .success();
    await_delivered(&stack, backlog + 2).await;
    check_all_sent_once(&stack, backlog + 2).await;
}

/// Beat is seen wherever its schedule is.
#[tokio::test]
async fn a_beat_whose_schedule_is_in_a_file_shows_and_is_missed() {
    let stack = Stack::new(On::Sqlite);
    let _api = stack.start("companion-api");
    let up = async || {
        let metrics = stack.request(Method::GET, "/metrics").send().await.expect("the api answers");
        let metrics = metrics.text().await.expect("text");
        metrics.lines().find_map(|line| line.strip_prefix("ai_beat_up ")).expect("a gauge").to_owned()
    };
    eventually_async("the api answers", SOON, async || {
        stack.request(Method::GET, "/health").send().await.is_ok()
    })
    .await;
    assert_eq!(up().await, "0");
    let mut command = stack.command("companion-beat");
    command.args(["--schedule", "schedule.json"]);
    let mut beat = Process::spawn("companion-beat", &command);
    await_part(&stack, "beat", |said| said == "ok").await;
    assert_eq!(up().await, "1");
    // A second one on the same file stands by.
    let mut second = Process::spawn("companion-beat", &command);
    second.wait_for_line("standing by", SOON);
    second.kill();
    await_part(&stack, "beat", |said| said == "ok").await;
    beat.kill();
    await_part(&stack, "beat", |said| said == "fail: no beat").await;
    eventually_async("the gauge falls", SOON, async || up().await == "0").await;
}

async fn redis_is_killed(on: On) {
    let (mut stack, backlog) = (Stack::new(on), backlog());
    let (_api, worker) = stack.start_api_and_worker().await;
    let _beat = stack.start("companion-beat");
    stack.make_due(backlog);
    stack.exec(SCAN).run().success();
    await_delivered(&stack, backlog / 10).await;

    stack.redis.kill();
    let signal = await_part(&stack, "redis", |said| said == "fail: connection refused").await;
    await_part(&stack, "celery", |said| said.starts_with("fail: ")).await;
    let (status, body) = stack.get("/metrics/basic").await;
    assert_eq!(status, StatusCode::OK, "the counters are there without Redis: {body}");
    stack.redis.restart();
    let restarted = Instant::now();
    let repair = await_part(&stack, "celery", |said| said == "ok").await;
    stack.exec(SCAN).run().success();
    await_delivered(&stack, backlog).await;
    let seen = Seen { name: "Redis killed", on, signal, repair, last: restarted.elapsed() };
    seen.check(&stack, backlog, &[&worker]).await;
}

macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_postgres {
            $(#[tokio::test] async fn $name() { super::$name(crate::stack::On::Postgres).await; })*
        }
        mod on_sqlite {
            $(#[tokio::test] async fn $name() { super::$name(crate::stack::On::Sqlite).await; })*
        }
    };
}

on_both! {
    a_worker_is_killed
    an_api_is_killed
    beat_is_killed
    redis_is_killed
}

#[tokio::test]
async fn postgresql_is_killed() {
    let mut server = PostgresServer::start();
    let (stack, backlog) = (Stack::on_server(&server), backlog());
    stack.exec("alembic upgrade head").run().success();
    run(stack.command("companion").args(["seed", "--demo"]), SOON).success();
    let (_api, worker) = stack.start_api_and_worker().await;
    let _beat = stack.start("companion-beat");
    stack.make_due(backlog);
    stack.exec(SCAN).run().success();
    await_delivered(&stack, backlog / 10).await;

    server.kill();
    let signal = await_part(&stack, "db", |said| said == "fail: connection refused").await;
    server.restart();
    let restarted = Instant::now();
    let repair = await_part(&stack, "db", |said| said == "ok").await;
    stack.exec("alembic upgrade head").run().success();
    let current = stack.exec("alembic current").run().success();
    assert!(current.contains("(head)"), "{current}");
    stack.exec(SCAN).run().success();
    await_delivered(&stack, backlog).await;
    let last = restarted.elapsed();
    let seen = Seen { name: "PostgreSQL killed", on: On::Postgres, signal, repair, last };
    seen.check(&stack, backlog, &[&worker]).await;
}

/// As another program does that writes and does not end.
#[tokio::test]
async fn sqlite_is_locked_by_another_program() {
    let (stack, backlog) = (Stack::new(On::Sqlite), backlog());
    let (_api, worker) = stack.start_api_and_worker().await;
    let _beat = stack.start("companion-beat");
    stack.make_due(backlog);
    stack.exec(SCAN).run().success();
    await_delivered(&stack, backlog / 10).await;

    let hold = format!(
        "import sqlite3, time\nbase = sqlite3.connect({:?}, isolation_level=None, timeout=30)\n\
         base.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\ntime.sleep(600)\n",
        stack.database_file()
    );
    let mut holder = PythonEnv::get().script(&hold).spawn();
    holder.wait_for_line("held", SOON);
    let locked = Instant::now();
    // Whatever is to be written is refused after a while, and says so.
    eventually_async("a chat that writes is told to come again", SOON, async || {
        let (status, _) = stack.post("/chat", json!({"message": "Remind me to rest in 3 days"})).await;
        status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let signal = locked.elapsed();
    holder.kill();
    let released = Instant::now();
    eventually_async("it can be written again", SOON, async || {
        stack.post("/users/push-token", json!({"push_token": Value::Null})).await.0 == StatusCode::OK
    })
    .await;
    let repair = released.elapsed();
    await_delivered(&stack, backlog).await;
    let seen = Seen { name: "SQLite locked", on: On::Sqlite, signal, repair, last: released.elapsed() };
    seen.print(backlog, &[&worker]);
    let different: HashSet<String> =
        stack.deliveries().iter().map(|delivery| delivery["reminder_id"].to_string()).collect();
    assert_eq!((stack.delivered(), different.len()), (backlog, backlog));
}

/// A schema that is missing is said, and the runbook's command brings it.
#[tokio::test]
async fn a_database_without_its_schema_is_not_ok() {
    let server = PostgresServer::start();
    let stack = Stack::on_server(&server);
    let _api = stack.start("companion-api");
    await_part(&stack, "db", |said| said.starts_with("fail: not migrated (0001_contract")).await;
    assert_eq!(stack.exec("alembic current").run().success(), "");
    assert!(stack.exec("alembic check").run().failure().contains("0001_contract"));
    stack.exec("alembic upgrade head").run().success();
    await_part(&stack, "db", |said| said == "ok").await;
    let current = stack.exec("alembic current").run().success();
    let history = stack.exec("alembic history").run().success();
    assert!(
        current.ends_with(" (head)") && history.contains(&format!("-> {current}")),
        "{current}\n{history}"
    );
    assert!(history.lines().last().is_some_and(|first| first == "<base> -> 0001_contract"), "{history}");
    stack.exec("alembic stamp base").run().success();
    assert_eq!(stack.exec("alembic current").run().success(), "");
    stack.exec("alembic stamp head").run().success();
    assert_eq!(stack.exec("alembic current -v").run().success(), current);
    let refused = stack.exec("alembic stamp 0000_nothing").run().failure();
    assert!(refused.contains("no revision") && refused.contains("0001_contract"), "{refused}");
}
