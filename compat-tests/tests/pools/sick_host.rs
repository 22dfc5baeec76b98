//! Hosts that kill children, or refuse processes and descriptors: no task fails for it, and none is lost.

use compat_tests::secs;
use serde_json::json;

use crate::bench::Bench;

/// Finds the worker, and takes all free descriptors from it or gives them back.
const HOST: &str = r#"
import http.client, resource
stats = list(app.control.inspect(timeout=30, limit=1).stats().values())[0]
pid = stats["pid"]
def children():
    stats = list(app.control.inspect(timeout=30, limit=1).stats().values())[0]
    return [child for child in stats["pool"]["processes"] if child != pid]
limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
def take_descriptors():
    # One is left, for a probe; a child needs more.
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = sorted(set(range(len(used) + 2)) - used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[1], limits[1]))
def give_descriptors():
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
"#;

#[test]
fn idle_children_that_are_killed_are_replaced_and_fail_no_task() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 2");
    let script = r#"
first = sorted(outcome(result) for result in [call("sleep", 0.5) for _ in range(2)])
for child in first:
    os.kill(child, 9)
eventually(lambda: len(set(children()) - set(first)) == 2, "two other children")
outcomes = []
for _ in range(5):
    for child in children():
        os.kill(child, 9)
    outcomes += [outcome(result) for result in [call("echo", n) for n in range(4)]]
print(json.dumps({"first": first, "outcomes": outcomes, "left": len(children())}))"#;
    let found = bench.script(&format!("{HOST}{script}"));
    assert_ne!(found["first"][0], found["first"][1]);
    assert_eq!(found["outcomes"], json!([[0, 1, 2, 3]; 5].concat()), "{found}");
    assert!(found["left"].as_u64().is_some_and(|left| left <= 2), "no more than there are slots: {found}");
    worker.wait_for_line("Idle child process .*SIGKILL", secs(5));
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn while_no_child_can_be_started_tasks_wait_at_the_broker_and_the_worker_is_not_ready() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 2 --max-tasks-per-child 1 --probe-address 127.0.0.1:0");
    let line = worker.wait_for_line("Probes are answered at", secs(10));
    let (_, address) = line.split_once("http://").unwrap();
    let address = address.split_whitespace().next().unwrap();
    let script = r#"
def ready():
    try:
        probes = http.client.HTTPConnection("ADDRESS", timeout=5)
        probes.request("GET", "/readyz")
        return probes.getresponse().read().decode()
    except OSError:
        return ""
eventually(lambda: ready().startswith("ok"), "ready before")
def short():
    # The worker may have closed some meanwhile.
    take_descriptors()
    call("echo", 0)
    reason = ready()
    return "child processes" in reason and reason
reason = eventually(short, "not ready")
# Nothing at all can be opened from now on.
resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
results = [call("echo", n) for n in range(100)]
queued = redis.llen("celery")
states = {result.state for result in results}
give_descriptors()
outcomes = [outcome(result) for result in results]
eventually(lambda: ready().startswith("ok"), "ready again")
print(json.dumps({"reason": reason, "queued": queued, "states": sorted(states), "outcomes": outcomes}))"#;
    let found = bench.script(&format!("{HOST}{}", script.replace("ADDRESS", address)));
    assert!(found["reason"].as_str().is_some_and(|reason| reason.contains("Too many open files")), "{found}");
    assert!(
        found["queued"].as_u64().is_some_and(|queued| queued >= 90),
        "no more are taken than the prefetch allows: {found}"
    );
    assert_eq!(found["states"], json!(["PENDING"]));
    assert_eq!(found["outcomes"], json!((0..100).collect::<Vec<_>>()));
    let said = worker.lines_with("No child processes can be started").len();
    assert!((1..10).contains(&said), "once for each shortage, not for each attempt: {said}");
    worker.wait_for_line("child processes can be started again", secs(5));
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn a_shutdown_on_a_sick_host_gives_every_message_back() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 2");
    let script = r#"
take_descriptors()
results = [call("echo", n) for n in range(20)]
eventually(lambda: redis.llen("celery") < 20, "some are taken")
os.kill(pid, 15)
eventually(lambda: redis.llen("celery") == 20, "all are back")
order = [json.loads(message)["headers"]["id"] for message in redis.lrange("celery", 0, -1)]
print(json.dumps(order == [result.id for result in reversed(results)]))"#;
    let found = bench.script(&format!("{HOST}{script}"));
    assert_eq!(found, json!(true), "in their old order");
    assert!(worker.wait(secs(20)).success());
}

#[test]
fn the_memory_of_the_worker_does_not_count_as_its_childs() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 1 --max-memory-per-child 150000");
    let found = bench.script(
        r#"
outcome(call("grow_here", 400))
print(json.dumps([outcome(call(*task)) for task in [("pid",), ("pid",), ("grow", 200), ("pid",)]]))"#,
    );
    assert_eq!(found[0], found[1], "a worker that was large replaces no small child");
    assert_eq!(found[1], found[2]);
    assert_ne!(found[2], found[3], "a child that was large is replaced");
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn functions_that_never_return_take_no_thread_from_later_tasks() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 100");
    let found = bench.script(
        r#"
stuck = [call("stick", time_limit=0.3) for _ in range(600)]
ended = {outcome(result)[0] for result in stuck}
after = [outcome(result) for result in [call("here", n, time_limit=20) for n in range(20)]]
print(json.dumps({"ended": sorted(ended), "after": after}))"#,
    );
    assert_eq!(found["ended"], json!(["billiard.exceptions.TimeLimitExceeded"]));
    assert_eq!(found["after"], json!((0..20).collect::<Vec<_>>()), "more than 512 threads are stuck");
    worker.wait_for_line("600 thread\\(s\\) are held so", secs(5));
    assert!(worker.terminate(secs(30)).success());
}
