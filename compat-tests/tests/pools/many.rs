//! Many tasks in one process, and a long time of tasks that end badly.

use std::process::Command;

use celeriac::Celery;
use celeriac::canvas::group;
use celeriac::config::Config;
use celeriac::message::Signature;
use compat_tests::{Process, RedisServer, binary, eventually_async, secs, size};
use serde_json::json;

use crate::bench::Bench;

/// `SLEEPING_TASKS` for another number.
#[tokio::test]
async fn ten_thousand_sleeping_tasks_take_less_than_150_mb() {
    let count = size("SLEEPING_TASKS", 10_000);
    let redis = RedisServer::start();
    let mut command = Command::new(binary("bench-worker"));
    command.args([
        "-n",
        "sleeper@host",
        "-l",
        "info",
        "--prefetch-multiplier",
        "1",
        "-c",
        &count.to_string(),
    ]);
    command.env("BENCH_BROKER_URL", redis.url()).env("BENCH_BACKEND_URL", redis.url());
    let mut worker = Process::spawn("bench-worker", &command);
    worker.wait_for_line(" ready", secs(30));

    let mut config = Config::default();
    config.set("broker_url", &redis.url()).unwrap();
    config.set("result_backend", &redis.url()).unwrap();
    config.set("celeriac_publish_timeout", "60").unwrap();
    let app = Celery::new("client", config).unwrap();
    let sleep = || Signature::new("bench.sleep").arg(3600.0);
    app.apply(group((0..count).map(|_| sleep()))).await.unwrap();
    let inspect = app.control().inspect().limit(1).timeout(secs(5));
    eventually_async("all of them sleep", secs(60), async || {
        let stats = inspect.stats().await.ok()?;
        let total = stats.first()?.1.as_ref().ok()?.total.get("bench.sleep").copied();
        total.filter(|total| *total == count as u64)
    })
    .await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{count} sleeping tasks: {kib} KiB resident");
    assert!(kib < 150_000, "{kib} KiB");
}

/// `POOL_SOAK_TASKS=5000` for a longer time.
#[test]
fn a_pool_whose_children_die_and_hang_never_stands_still() {
    let count = size("POOL_SOAK_TASKS", 80);
    let bench = Bench::new();
    let mut worker = bench.worker("-c 4 --max-tasks-per-child 10");
    let found = bench.script(&format!(
        r#"
import random
pubsub = redis.pubsub(ignore_subscribe_messages=True)
pubsub.psubscribe("celery-task-meta-*")
pubsub.get_message(timeout=5)
dice = random.Random(7)
kinds = [("pid", (), {{}}), ("sleep", (0.05,), {{}}), ("abort", (), {{}}), ("exit", (3,), {{}}), ("panic", ("oh",), {{}}),
         ("fail", ("no",), {{}}), ("spin", (), {{"time_limit": 0.3}}), ("sleep", (60,), {{"soft_time_limit": 0.2}}),
         ("grow", (20,), {{}}), ("retry", (), {{}})]
sent = [call(name, *args, **options) for name, args, options in (dice.choice(kinds) for _ in range({count}))]
ended, longest, last = set(), 0, time.monotonic()
while len(ended) < len(sent):
    message = pubsub.get_message(timeout=1)
    longest = max(longest, time.monotonic() - last)
    if longest > 10:
        raise SystemExit(f"nothing ended for 10 s, {{len(ended)}} of {{len(sent)}} so far")
    if message:
        last = time.monotonic()
        meta = json.loads(message["data"])
        if meta["status"] in ("SUCCESS", "FAILURE"):
            ended.add(meta["task_id"])
print(json.dumps([len(ended), redis.llen("celery"), redis.hlen("unacked")]))"#
    ));
    assert_eq!(found, json!([count, 0, 0]));
    assert!(worker.terminate(secs(30)).success());
}
