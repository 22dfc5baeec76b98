//! What control commands do to a Rust worker.

use std::time::{Duration, Instant};

use compat_tests::{eventually, secs, size};
use serde_json::json;

use crate::stage::{SOON, Stage};

#[test]
fn a_revoked_task_never_runs_and_is_stored_as_revoked() {
    let stage = Stage::new();
    let mut worker = stage.rust_worker("-n rs@host -c 2 -E");
    let states = stage.script(
        r#"
scheduled = add.apply_async((1, 2), countdown=2)
other = add.apply_async((1, 2), countdown=2)
wait_until("scheduled", lambda: len(ask("scheduled", ["rs@host"])["rs@host"]) == 2)
app.control.revoke(scheduled.id, reply=True, timeout=5, destination=["rs@host"])
stored_at_once = app.AsyncResult(scheduled.id).state
unknown = "11111111-1111-4111-8111-111111111111"
app.control.revoke(unknown)
wait_until("revoked", lambda: unknown in ask("revoked", ["rs@host"])["rs@host"])
late = add.apply_async((1, 2), task_id=unknown)
wait_until("done", lambda: scheduled.ready() and other.ready() and late.ready())
last = add.delay(5, 6).get(timeout=60)
show([stored_at_once, app.AsyncResult(scheduled.id).state, late.state, other.get(), ask("stats", ["rs@host"])["rs@host"]["total"]])
"#,
    );
    assert_eq!(states, json!(["REVOKED", "REVOKED", "REVOKED", 3, {"tools.add": 2}]));
    assert!(worker.is_running());
}

#[test]
fn a_running_task_is_terminated() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 2");
    let answers = stage.script(
        r#"
running = sleep.delay(60)
wait_until("active", lambda: ask("active", ["rs@host"])["rs@host"])
started = time.monotonic()
reply = ask("revoke", ["rs@host"], task_id=running.id, terminate=True, signal="SIGTERM")
try:
    running.get(timeout=5)
    raised = None
except Exception as error:
    raised = type(error).__name__
stamped = sleep.s(60)
stamped.stamp(tenant="acme")
second = stamped.apply_async()
wait_until("active", lambda: ask("active", ["rs@host"])["rs@host"])
by_stamp = ask("revoke_by_stamped_headers", ["rs@host"], headers={"tenant": ["acme"]}, terminate=True)
wait_until("revoked", lambda: second.state == "REVOKED")
show([reply["rs@host"]["ok"] == f"terminate: {running.id}", raised, running.state, by_stamp["rs@host"],
      ask("active", ["rs@host"])["rs@host"], time.monotonic() - started < 20])
"#,
    );
    let by_stamp = "headers defaultdict(<class 'set'>, {'tenant': {'acme'}}) revoked";
    assert_eq!(answers, json!([true, "TaskRevokedError", "REVOKED", {"ok": by_stamp}, [], true]));
}

#[test]
fn rate_limits_hold_and_can_be_taken_back() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 8");
    let answers = stage.script(
        r#"
ask("rate_limit", ["rs@host"], task_name="tools.add", rate_limit="5/s")
started = time.monotonic()
results = [add.delay(1, n) for n in range(11)]
[result.get(timeout=20) for result in results]
limited = time.monotonic() - started
registered = ask("registered", ["rs@host"])["rs@host"][0]
ask("rate_limit", ["rs@host"], task_name="tools.add", rate_limit="1/h")
ask("rate_limit", ["rs@host"], task_name="tools.add", rate_limit="0")
results = [add.delay(1, n) for n in range(11)]
show([limited, [result.get(timeout=60) for result in results], registered])
"#,
    );
    let limited = answers[0].as_f64().unwrap();
    assert!(limited >= 1.8, "11 tasks at 5/s took {limited} s");
    assert_eq!(answers[1], json!((1..12).collect::<Vec<_>>()), "an hour is not waited for");
    assert_eq!(answers[2], "tools.add [rate_limit=5/s]");
}

#[test]
fn a_raised_rate_limit_holds_at_once_for_what_waits_too() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 8");
    let answers = stage.script(
        r#"
ask("rate_limit", ["rs@host"], task_name="tools.add", rate_limit="1/h")
results = [add.delay(1, n) for n in range(4)]
results[0].get(timeout=20)
wait_until("the others wait", lambda: len(ask("reserved", ["rs@host"])["rs@host"]) == 3)
ask("rate_limit", ["rs@host"], task_name="tools.add", rate_limit="100/s")
results += [add.delay(1, n) for n in range(4, 8)]
show([result.get(timeout=30) for result in results])
"#,
    );
    assert_eq!(answers, json!([1, 2, 3, 4, 5, 6, 7, 8]));
}

#[test]
fn rate_limits_that_are_disabled_are_shown_and_hold_nothing_up() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 2 --worker-disable-rate-limits true");
    let answers = stage.script(
        r#"
from celery.result import ResultSet
answer = ask("rate_limit", ["rs@host"], task_name="tools.add", rate_limit="1/h")["rs@host"]
limits = [task for task in ask("registered", ["rs@host"])["rs@host"] if "rate_limit" in task]
results = [add.delay(1, n) for n in range(3)] + [app.send_task("tools.limited") for _ in range(60)]
show([answer, limits, ResultSet(results).get(timeout=30)[:3]])
"#,
    );
    let limits = ["tools.add [rate_limit=1/h]", "tools.limited [rate_limit=1/s]"];
    assert_eq!(answers, json!([{"ok": "new rate limit set successfully"}, limits, [1, 2, 3]]));
}

#[test]
fn a_worker_that_does_not_prefetch_holds_only_what_runs() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 2 --disable-prefetch");
    let answers = stage.script(
        r#"
[sleep.delay(60) for _ in range(6)]
wait_until("two run", lambda: len(ask("active", ["rs@host"])["rs@host"]) == 2)
show(ask("reserved", ["rs@host"])["rs@host"])
"#,
    );
    assert_eq!(answers, json!([]));
    let waiting: i64 = redis::cmd("LLEN").arg("celery").query(&mut stage.redis.connection()).unwrap();
    assert_eq!(waiting, 4);
}

#[test]
fn time_limits_are_set_for_tasks_to_come() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 2");
    let answers = stage.script(
        r#"
ask("time_limit", ["rs@host"], task_name="tools.sleep", hard=0.5)
result = sleep.delay(30)
try:
    result.get(timeout=10)
    raised = None
except Exception as error:
    raised = type(error).__name__
items = ask("registered", ["rs@host"], taskinfoitems=["time_limit"])["rs@host"]
show([raised, [item for item in items if "time_limit" in item]])
"#,
    );
    assert_eq!(answers, json!(["TimeLimitExceeded", ["tools.sleep [time_limit=0.5]"]]));
}

#[test]
fn queues_are_consumed_and_cancelled_on_command() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -Q first -c 2");
    let answers = stage.script(
        r#"
waiting = add.apply_async((1, 2), queue="extra")
names = lambda: [queue["name"] for queue in ask("active_queues", ["rs@host"])["rs@host"]]
before = names()
ask("add_consumer", ["rs@host"], queue="extra")
value = waiting.get(timeout=10)
during = names()
ask("cancel_consumer", ["rs@host"], queue="extra")
wait_until("cancelled", lambda: "extra" not in names())
left = add.apply_async((1, 2), queue="extra")
other = add.apply_async((3, 4), queue="first")
show([before, value, during, names(), other.get(timeout=10), left.state])
"#,
    );
    assert_eq!(answers, json!([["first"], 3, ["first", "extra"], ["first"], 7, "PENDING"]));
    let waiting: i64 = redis::cmd("LLEN").arg("extra").query(&mut stage.redis.connection()).unwrap();
    assert_eq!(waiting, 1);
}

#[test]
fn the_pool_grows_and_shrinks() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 1 --prefetch-multiplier 4");
    let answers = stage.script(
        r#"
stats = lambda: ask("stats", ["rs@host"])["rs@host"]
active = lambda: len(ask("active", ["rs@host"])["rs@host"])
[sleep.delay(3) for _ in range(3)]
wait_until("one runs", lambda: active() == 1)
before = stats()
ask("pool_grow", ["rs@host"], n=2)
wait_until("three run", lambda: active() == 3)
grown = stats()
ask("pool_shrink", ["rs@host"], n=2)
shrunk = stats()
values = [[each["pool"]["max-concurrency"], each["prefetch_count"]] for each in (before, grown, shrunk)]
show([values, ask("pool_shrink", ["rs@host"], n=1)["rs@host"]])
"#,
    );
    let error = "ValueError(\"Can't shrink pool. All processes busy!\")";
    assert_eq!(answers, json!([[[1, 4], [3, 12], [1, 4]], {"error": error}]));
}

#[test]
fn autoscaling_follows_the_load_between_its_bounds() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host --autoscale 4,1");
    let answers = stage.script(
        r#"
stats = lambda: ask("stats", ["rs@host"])["rs@host"]
refused = ask("pool_grow", ["rs@host"], n=1)["rs@host"]
first = stats()["autoscaler"]
[sleep.delay(20) for _ in range(8)]
wait_until("four run", lambda: len(ask("active", ["rs@host"])["rs@host"]) == 4)
reply = ask("autoscale", ["rs@host"], max=6, min=2)["rs@host"]
wait_until("six run", lambda: len(ask("active", ["rs@host"])["rs@host"]) == 6)
last = stats()["autoscaler"]
show([refused, {key: first[key] for key in ("max", "min", "current")}, reply, {key: last[key] for key in ("max", "min", "current")}])
"#,
    );
    let refused = "pool_grow is not supported with autoscale. Adjust autoscale range instead.";
    assert_eq!(
        answers,
        json!([
            {"error": refused},
            {"max": 4, "min": 1, "current": 1},
            {"ok": "autoscale now max=6 min=2"},
            {"max": 6, "min": 2, "current": 6},
        ])
    );
}

#[test]
fn a_shutdown_command_ends_a_worker_warm() {
    let stage = Stage::new();
    let mut worker = stage.rust_worker("-n rs@host -c 1");
    let result = stage.script(
        r#"
result = sleep.delay(1)
wait_until("active", lambda: ask("active", ["rs@host"])["rs@host"])
app.control.shutdown(destination=["rs@host"])
result.get(timeout=10)
show(result.state)
"#,
    );
    assert_eq!(result, "SUCCESS");
    assert!(worker.wait(SOON).success());
    assert_eq!(stage.celery("status").run().status.code(), Some(69), "nobody answers any more");
}

/// How often commands are asked in the tests of speed; `CONTROL_ASKS=1000` for the whole of the promise.
fn asks() -> usize {
    size("CONTROL_ASKS", DEFAULT_ASKS)
}

const DEFAULT_ASKS: usize = 60;

/// Commands are answered in time while 10,000 tasks are queued and all slots are busy; times in seconds.
fn assert_answers_are_quick(task: &str, concurrency: usize, running: usize, deadline: f64) {
    let stage = Stage::new();
    let queueing = async {
        let app = stage.client();
        for _ in 0..100 {
            let calls = (0..100).map(|_| app.send_task(task, [0.5], []));
            futures_util::future::try_join_all(calls).await.unwrap();
        }
    };
    tokio::runtime::Runtime::new().unwrap().block_on(queueing);
    let _worker = stage.rust_worker(&format!("-n rs@host -c {concurrency} -E"));
    let limit = secs(120) + Duration::from_millis(1000) * 3 * asks() as u32;
    let times = stage.script_within(limit, &format!(
        r#"
wait_until("all slots are busy", lambda: len(ask("active", ["rs@host"], safe=True)["rs@host"]) >= {running}, 30)
inspect = app.control.inspect(["rs@host"], timeout=60)
times = {{}}
for name in ("ping", "stats", "active"):
    of = times[name] = []
    for _ in range({asks}):
        started = time.monotonic()
        assert "rs@host" in getattr(inspect, name)()
        of.append(time.monotonic() - started)
    of.sort()
show(times)
"#,
        asks = asks()
    ));
    for (command, times) in times.as_object().unwrap() {
        let times: Vec<f64> = times.as_array().unwrap().iter().map(|time| time.as_f64().unwrap()).collect();
        let percentile = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
        let (half, p99, most) = (percentile(50), percentile(99), times[times.len() - 1]);
        println!(
            "{command} while {task} keeps {concurrency} slots busy: p50 {half:.3}, p99 {p99:.3}, most {most:.3}"
        );
        // The asking program and the rest of the machine have a share in it. Behind what is queued an answer would take
        // minutes; the promise itself is for a machine that does nothing else, in full size.
        let is_full = asks() > DEFAULT_ASKS;
        let (most_half, most_p99) = if is_full { (deadline, 10.0 * deadline) } else { (5.0, 30.0) };
        assert!(half < most_half, "{command} while {task} keeps all slots busy: {times:?}");
        assert!(p99 < most_p99, "{command} while {task} keeps all slots busy: {times:?}");
    }
}

#[test]
fn a_worker_whose_slots_are_blocked_answers_within_100_ms() {
    assert_answers_are_quick("tools.block", 8, 8, 0.1);
}

#[test]
fn a_worker_that_computes_on_all_cores_answers_within_200_ms() {
    assert_answers_are_quick("tools.compute", 8, 8, 0.2);
}

#[test]
fn a_worker_without_a_free_thread_of_its_runtime_answers_within_200_ms() {
    // As many tasks that never yield as the runtime has threads.
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    assert_answers_are_quick("tools.spin", 8 * threads, threads, 0.2);
}

#[test]
fn a_task_that_keeps_a_thread_of_the_runtime_does_not_keep_the_next_message() {
    let stage = Stage::new();
    for _ in 0..4 {
        let _worker = stage.rust_worker("-n rs@host -c 4");
        let state = stage.script(
            r#"
broker = app.connection().default_channel.client
spin = app.send_task("tools.spin", (20,))
wait_until("it is taken", lambda: broker.llen("celery") == 0)
assert add.delay(1, 2).get(timeout=60) == 3
show([spin.state, broker.keys("celeriac.inflight.*.[0-9]*") + broker.hkeys("unacked")])
"#,
        );
        assert_eq!(state, json!(["PENDING", []]), "it runs still, and its message is acknowledged");
    }
}

#[test]
fn a_queue_that_is_added_is_bound_to_its_exchange() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -Q first -c 1");
    let value = stage.script(
        r#"
from kombu import Exchange
ask("add_consumer", ["rs@host"], queue="animals", exchange="topics", exchange_type="topic", routing_key="animals.#")
bound = lambda: app.connection().default_channel.client.smembers("_kombu.binding.topics")
wait_until("bound", bound)
queue = ask("active_queues", ["rs@host"])["rs@host"][1]
# kombu takes an exchange that its process has not declared for a direct one.
topics = Exchange("topics", type="topic")
sent = add.apply_async((1, 2), exchange=topics, routing_key="animals.cat.black", declare=[topics])
show([sent.get(timeout=10), queue["name"], queue["exchange"]["type"], queue["routing_key"]])
"#,
    );
    assert_eq!(value, json!([3, "animals", "topic", "animals.#"]));
}

#[test]
fn a_worker_has_a_queue_of_its_own_if_it_is_set() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 1 --worker-direct");
    let answers = stage.script(
        r#"
from celery.utils.nodenames import worker_direct
queues = [[queue["name"], queue["exchange"]["name"], queue["routing_key"]] for queue in ask("active_queues", ["rs@host"])["rs@host"]]
show([queues, add.apply_async((1, 2), queue=worker_direct("rs@host")).get(timeout=10)])
"#,
    );
    let own = json!(["rs@host.dq2", "C.dq2", "rs@host"]);
    assert_eq!(answers, json!([[["celery", "celery", "celery"], own], 3]));
}

#[test]
fn a_pool_restart_replaces_the_processes_that_run_tasks() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 1");
    let pids = stage.script(
        r#"
pid = lambda: app.send_task("tools.pid").get(timeout=20)
first, again = pid(), pid()
ask("pool_restart", ["rs@host"])
wait_until("it is replaced", lambda: pid() != first)
show([first == again, ask("stats", ["rs@host"])["rs@host"]["pool"]["processes"] == [pid()]])
"#,
    );
    assert_eq!(pids, json!([true, true]));
}

#[test]
fn a_heartbeat_is_sent_on_command() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 1 --heartbeat-interval 60");
    let beats = stage.script(
        r#"
beats = collect_events(lambda events: any(event["type"] == "worker-heartbeat" for event in events) or ask("heartbeat", ["rs@host"]) is None)
show([[event["hostname"], event["freq"]] for event in beats if event["type"] == "worker-heartbeat"])
"#,
    );
    assert_eq!(beats, json!([["rs@host", 5]]));
}

#[test]
fn heartbeats_go_on_while_all_slots_are_blocked() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 2 --heartbeat-interval 1");
    let beats = stage.script(
        r#"
[app.send_task("tools.block", (8,)) for _ in range(2)]
wait_until("both run", lambda: len(ask("active", ["rs@host"])["rs@host"]) == 2)
busy = lambda events: [event["active"] for event in events if event["type"] == "worker-heartbeat" and event["active"] == 2]
show(busy(collect_events(lambda events: len(busy(events)) >= 3))[:3])
"#,
    );
    assert_eq!(beats, json!([2, 2, 2]));
}

#[test]
fn the_broker_may_go_and_come_back() {
    let mut stage = Stage::new();
    let worker = stage.rust_worker("-n rs@host -c 2");
    for _ in 0..3 {
        stage.redis.kill();
        assert!(!worker.lines().is_empty());
        stage.redis.restart();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let client = stage.client();
        let started = Instant::now();
        eventually("the worker answers again", secs(10), || {
            let inspect = client.control().inspect().timeout(Duration::from_millis(500));
            runtime.block_on(inspect.ping()).is_ok_and(|nodes| nodes == ["rs@host"])
        });
        assert!(started.elapsed() < secs(6), "{:?}", started.elapsed());
    }
}
