//! The probes of a worker.

use compat_tests::{Port, Process, eventually, http_get as get, secs};

use crate::stage::{SOON, Stage};

fn probed(stage: &Stage, port: &Port, arguments: &str) -> Process {
    stage.rust_worker(&format!("{arguments} --probe-address 127.0.0.1:{}", port.number()))
}

fn status(port: &Port, path: &str) -> u16 {
    get(port.number(), path).map_or(0, |(status, _)| status)
}

#[test]
fn a_worker_is_ready_while_it_works_and_lives_while_the_broker_is_away() {
    let mut stage = Stage::new();
    let port = Port::free();
    let mut worker = probed(&stage, &port, "-n rs@host -c 2");
    eventually("it is ready", SOON, || status(&port, "/readyz") == 200);
    assert_eq!(status(&port, "/livez"), 200);
    assert_eq!(status(&port, "/"), 404);

    stage.redis.kill();
    eventually("it is not ready any more", secs(10), || status(&port, "/readyz") == 503);
    let (_, reasons) = get(port.number(), "/readyz").unwrap();
    assert!(reasons.contains("broker"), "{reasons}");
    assert_eq!(status(&port, "/livez"), 200, "a restart of the worker would not bring the broker back");
    stage.redis.restart();
    eventually("it is ready again", secs(10), || status(&port, "/readyz") == 200);

    let app = stage.client();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(app.send_task("tools.sleep", [5], [])).unwrap();
    let is_active = async || {
        let active = app.control().inspect().active().await.unwrap();
        active.values().any(|tasks| tasks.as_ref().is_ok_and(|tasks| tasks.len() == 1))
    };
    eventually("it runs", SOON, || runtime.block_on(is_active()));
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    eventually("it is draining", secs(2), || status(&port, "/readyz") == 503);
    let (_, reasons) = get(port.number(), "/readyz").unwrap();
    assert!(reasons.contains("shutting down"), "{reasons}");
    assert_eq!(status(&port, "/livez"), 200);
    assert!(worker.wait(secs(20)).success());
}

#[test]
fn a_broker_that_is_stopped_makes_a_worker_unready() {
    let stage = Stage::new();
    let port = Port::free();
    let _worker = probed(&stage, &port, "-n rs@host -c 2");
    eventually("it is ready", SOON, || status(&port, "/readyz") == 200);
    stage.redis.pause();
    eventually("it is not ready any more", secs(10), || status(&port, "/readyz") == 503);
    assert_eq!(status(&port, "/livez"), 200);
    stage.redis.resume();
    eventually("it is ready again", secs(10), || status(&port, "/readyz") == 200);
}

/// Tasks that never yield keep all threads of the runtime, and with them the consumer.
#[test]
fn a_worker_that_takes_nothing_though_messages_wait_is_unready_and_one_that_stalls_is_to_be_replaced() {
    let stage = Stage::new();
    let port = Port::free();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let slots = 4 * threads;
    let worker = probed(&stage, &port, &format!("-n rs@host -c {slots} --celeriac-stall-timeout=3"));
    eventually("it is ready", SOON, || status(&port, "/readyz") == 200);
    stage.script(&format!(
        r#"
[app.send_task("tools.spin", (18,)) for _ in range({threads})]
wait_until("all threads are busy", lambda: len(ask("active", ["rs@host"])["rs@host"]) == {threads})
[add.delay(1, 2) for _ in range(20)]
show(0)
"#
    ));
    eventually("it stalls", secs(15), || status(&port, "/livez") == 503);
    let (_, reasons) = get(port.number(), "/livez").unwrap();
    assert!(reasons.contains("no thread of the worker has had a turn"), "{reasons}");
    eventually("it is unready", secs(12), || status(&port, "/readyz") == 503);
    eventually("the stall is reported", secs(15), || !worker.lines_with("rs@host stalls: ").is_empty());
    eventually("it lives and works again", secs(30), || {
        status(&port, "/livez") == 200 && status(&port, "/readyz") == 200
    });
}

#[test]
fn busy_slots_and_rate_limits_are_no_reason_to_be_unready() {
    let stage = Stage::new();
    let port = Port::free();
    let worker = probed(&stage, &port, "-n rs@host -c 2 --prefetch-multiplier 1");
    stage.script(
        r#"
[app.send_task("tools.limited") for _ in range(20)]
[app.send_task("tools.block", (12,)) for _ in range(10)]
show(0)
"#,
    );
    eventually("a slot was busy for long", SOON, || {
        assert_eq!(get(port.number(), "/readyz").unwrap(), (200, "ok\n".to_owned()));
        assert_eq!(status(&port, "/livez"), 200);
        !worker.lines_with(r"tools\.block\[.*succeeded").is_empty()
    });
    assert!(worker.lines_with("stalls: ").is_empty());
}

#[test]
fn metrics_count_what_the_worker_does_also_without_events() {
    let stage = Stage::new();
    let port = Port::free();
    let _worker = probed(&stage, &port, "-n rs@host -c 2");
    stage.script(
        r#"
for result in [add.delay(1, 2), add.delay(3, 4), fail.delay("boom"), retry.delay()]:
    result.get(timeout=10, propagate=False)
later = add.apply_async((1, 2), countdown=60)
running = sleep.delay(60)
wait_until("both are there", lambda: ask("active", ["rs@host"])["rs@host"] and ask("scheduled", ["rs@host"])["rs@host"])
show(0)
"#,
    );
    let of = |task: &str| format!("{{hostname=\"rs@host\",name=\"{task}\",queue_name=\"celery\"}}");
    let lines = [
        format!("celery_task_succeeded_total{} 2", of("tools.add")),
        format!("celery_task_started_total{} 2", of("tools.retry")),
        format!("celery_task_retried_total{} 1", of("tools.retry")),
        format!("celery_task_runtime_count{} 2", of("tools.add")),
        "celery_task_failed_total{exception=\"ValueError\",hostname=\"rs@host\",name=\"tools.fail\""
            .to_owned(),
        "celery_worker_up{hostname=\"rs@host\"} 1".to_owned(),
        "celery_worker_tasks_active{hostname=\"rs@host\"} 1".to_owned(),
        "celeriac_worker_tasks_scheduled{hostname=\"rs@host\"} 1".to_owned(),
        "celeriac_worker_slots{hostname=\"rs@host\"} 2".to_owned(),
        "celery_queue_length{hostname=\"rs@host\",queue_name=\"celery\"} 0".to_owned(),
        "process_resident_memory_bytes{".to_owned(),
    ];
    eventually("all numbers", SOON, || {
        let (_, page) = get(port.number(), "/metrics").map_err(|error| error.to_string())?;
        match lines.iter().find(|line| !page.contains(line.as_str())) {
            Some(line) => Err(format!("{line} is missing in\n{page}")),
            None => Ok(()),
        }
    });
}

#[test]
fn messages_that_come_back_from_dead_workers_are_counted() {
    let stage = Stage::new();
    let port = Port::free();
    stage.script(
        r#"
broker = app.connection().default_channel.client
[add.delay(1, 2) for _ in range(3)]
broker.rename("celery", "celeriac.inflight.gone.0")
broker.zadd("celeriac.inflight", {"gone": 1})
show(0)
"#,
    );
    let _worker = probed(&stage, &port, "-n rs@host -c 2");
    eventually("three are counted", secs(60), || {
        get(port.number(), "/metrics").is_ok_and(|(_, page)| {
            page.contains("celeriac_messages_restored_total{hostname=\"rs@host\"} 3\n")
        })
    });
}

#[test]
fn an_address_that_is_taken_is_named() {
    let stage = Stage::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = std::process::Command::new(compat_tests::binary("tools-worker"));
    command.args(["--probe-address", &address]).env("CELERY_BROKER_URL", stage.redis.url());
    let said = compat_tests::run(&command, secs(20)).failure();
    assert!(said.contains(&address) && said.contains("celeriac_probe_address"), "{said}");
}
