//! Many reminders: how fast a backlog is sent, what that takes, and how punctual reminders are.
//!
//! `scripts/bench-service` runs these in full size with release builds; the tables that they print are its figures. Sizes come from
//! `LOAD_BACKLOG`, `LOAD_PER_SECOND` and `LOAD_SECONDS`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use compat_tests::{PostgresServer, Process, Usage, eventually_async, secs, size};
use serde_json::Value;

use crate::stack::Stack;

const SCAN: &str = "python -m app.tasks.reminders.send_due_reminders";

/// The resources that each program has used.
struct Takers {
    names: Vec<&'static str>,
    before: Vec<Usage>,
}

impl Takers {
    fn look(server: &PostgresServer, stack: &Stack, programs: &[(&'static str, &Process)]) -> Self {
        let mut all = vec![("PostgreSQL", server.usage()), ("Redis", stack.redis.usage())];
        all.extend(programs.iter().map(|(name, program)| (*name, program.usage())));
        let (names, before) = all.into_iter().unzip();
        Self { names, before }
    }

    fn print(&self, now: &Self, reminders: usize) {
        println!("| program | processor | for each reminder | peak memory |\n| --- | --- | --- | --- |");
        for ((name, before), now) in self.names.iter().zip(&self.before).zip(&now.before) {
            let processor = now.processor.saturating_sub(before.processor).as_secs_f64();
            let each = processor * 1e6 / reminders as f64;
            println!("| {name} | {processor:.1} s | {each:.0} us | {} MiB |", now.peak_kib / 1024);
        }
    }
}

/// Returns how often workers ran a delivery. A message that comes back to a worker is counted each time.
fn runs(workers: &[&Process]) -> usize {
    workers.iter().map(|worker| worker.lines_with("Delivery of reminder").len()).sum()
}

async fn await_delivered(stack: &Stack, count: usize, patience: Duration) {
    eventually_async(&format!("{count} deliveries"), patience, async || {
        let delivered = stack.delivered();
        if delivered >= count { Ok(()) } else { Err(format!("{delivered} so far")) }
    })
    .await;
}

/// Checks that each of so many reminders was delivered, and none twice.
fn check_once(deliveries: &[Value], count: usize) {
    let different: HashSet<&str> =
        deliveries.iter().filter_map(|delivery| delivery["reminder_id"].as_str()).collect();
    assert_eq!((deliveries.len(), different.len()), (count, count), "all of them, each once");
}

#[tokio::test]
async fn two_workers_send_a_backlog() {
    let count = size("LOAD_BACKLOG", 600);
    let server = PostgresServer::start_durable();
    let stack = Stack::prepared_on(&server);
    let (api, first) = stack.start_api_and_worker().await;
    let mut second = stack.start("companion-worker");
    second.wait_for_line("ready", secs(30));
    let beat = stack.start("companion-beat");
    let programs = [("worker", &first), ("worker", &second), ("api", &api), ("beat", &beat)];
    stack.make_due(count);
    let before = Takers::look(&server, &stack, &programs);
    let started = Instant::now();
    stack.exec(SCAN).run().success();
    await_delivered(&stack, count, secs(120) + Duration::from_millis(20) * count as u32).await;
    let took = started.elapsed();
    let after = Takers::look(&server, &stack, &programs);
    let runs = runs(&[&first, &second]);
    println!(
        "{count} reminders due at once, two workers: {:.1} s, {:.0} a second, {:.4} runs for each",
        took.as_secs_f64(),
        count as f64 / took.as_secs_f64(),
        runs as f64 / count as f64
    );
    before.print(&after, count);
    check_once(&stack.deliveries(), count);
    assert!(runs * 100 <= count * 101, "{runs} runs for {count} reminders");
    eventually_async("each is recorded as sent, and no message is left", secs(60), async || {
        let left = stack.sql(
            "SELECT (SELECT count(*) FROM reminders WHERE status <> 'sent'), (SELECT count(*) FROM outbox_messages)",
        );
        if left == "0|0" { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test]
async fn reminders_are_sent_when_they_are_due() {
    let (each_second, seconds) = (size("LOAD_PER_SECOND", 20), size("LOAD_SECONDS", 5));
    let count = each_second * seconds;
    let server = PostgresServer::start_durable();
    let stack = Stack::prepared_on(&server);
    let (api, worker) = stack.start_api_and_worker().await;
    let beat = stack.start("companion-beat");
    let programs = [("worker", &worker), ("api", &api), ("beat", &beat)];
    stack.sql(&format!(
        "INSERT INTO reminders (id, user_id, text, run_ts, local_ts, utc_ts, correlation_id, status) \
         SELECT gen_random_uuid(), users.id, 'load ' || i, at, at, at, 'load', 'scheduled' FROM users, \
         generate_series(0, {count} - 1) AS i, LATERAL (SELECT now() + interval '8 s' + i * interval '1 s' / {each_second}) AS due (at)"
    ));
    let before = Takers::look(&server, &stack, &programs);
    // As beat does within a minute.
    stack.exec(SCAN).run().success();
    await_delivered(&stack, count, secs(120) + secs(2 * seconds as u64)).await;
    let after = Takers::look(&server, &stack, &programs);
    check_once(&stack.deliveries(), count);
    eventually_async("each is recorded as sent", secs(60), async || {
        stack.sql("SELECT count(*) FROM reminders WHERE status <> 'sent'") == "0"
    })
    .await;
    let late = |share: f64| -> f64 {
        let sql = format!(
            "SELECT percentile_cont({share}) WITHIN GROUP (ORDER BY extract(epoch FROM sent_at - run_ts)) FROM reminders"
        );
        stack.sql(&sql).parse().expect("a number")
    };
    let early = stack.sql("SELECT count(*) FROM reminders WHERE sent_at < run_ts");
    println!(
        "{each_second} reminders due each second, for {seconds} s: 50 % within {:.3} s of run_ts, 95 % within {:.3} s, 99 % \
         within {:.3} s, all within {:.3} s",
        late(0.5),
        late(0.95),
        late(0.99),
        late(1.0)
    );
    before.print(&after, count);
    assert_eq!(early, "0", "none is sent before its time");
    assert!(late(0.95) < 10.0, "95 % are sent within {:.3} s", late(0.95));
    assert_eq!(runs(&[&worker]), count, "one run for each");
}
