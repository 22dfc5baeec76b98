//! Tasks in child processes.

use compat_tests::{eventually, secs};
use serde_json::json;

use crate::bench::Bench;

#[test]
fn tasks_run_in_children_that_stay_and_have_the_programs_tasks_and_states() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 1");
    let found = bench.script(
        r#"
sent = call("send")
child = outcome(sent)
print(json.dumps({
    "pids": [outcome(call("pid")) for _ in range(5)],
    "worker": outcome(call("worker_pid")),
    "made_in": outcome(call("made_in")),
    "echo": outcome(call("echo", {"n": [1, 2.5, None, "é"]})),
    "fail": outcome(call("fail", "no such thing")),
    "retry": outcome(call("retry")),
    "children": [str(c.id) for c in sent.children] == [child],
    "child": outcome(app.AsyncResult(child)),
    "stats": list(app.control.inspect(timeout=5).stats().values())[0]["pool"]["processes"],
}))"#,
    );
    let pid = &found["pids"][0];
    assert_eq!(found["pids"], json!([pid, pid, pid, pid, pid]), "the child stays");
    assert_ne!(&found["worker"], pid);
    assert_eq!(found["worker"], json!(worker.id()));
    assert_eq!(&found["made_in"], pid, "a child makes its own states");
    assert_eq!(found["stats"], json!([pid]));
    assert_eq!(found["echo"], json!({"n": [1, 2.5, null, "é"]}));
    assert_eq!(found["fail"], json!(["builtins.ValueError", "no such thing"]));
    assert_eq!(found["retry"], json!(1));
    assert_eq!((&found["children"], &found["child"]), (&json!(true), &json!("sent")));
    assert!(worker.terminate(secs(20)).success());
    let gone = std::path::PathBuf::from(format!("/proc/{pid}"));
    eventually("the child ends with its worker", secs(10), || !gone.exists());
}

#[test]
fn a_child_that_dies_fails_its_task_and_nothing_else() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 2");
    let found = bench.script(
        r#"
import signal
bystander = call("sleep", 3)
killed = call("spin", task_id="victim")
eventually(lambda: killed.id in str(app.control.inspect(timeout=5).active()), "active")
found = {}
app.control.revoke("victim", terminate=True, signal="SIGKILL")
found["revoked"] = outcome(killed)
found["abort"] = outcome(call("abort"))
found["exit"] = outcome(call("exit", 7))
found["panic"] = outcome(call("panic", "oh no"))
found["bystander"] = isinstance(outcome(bystander), int)
found["after"] = isinstance(outcome(call("pid")), int)
found["back"] = outcome(call("comes_back"))
print(json.dumps(found))"#,
    );
    let lost = |text: &str| json!(["billiard.exceptions.WorkerLostError", text]);
    assert_eq!(found["revoked"], json!(["celery.exceptions.TaskRevokedError", "terminated"]));
    assert_eq!(found["abort"], lost("Worker exited prematurely: signal 6 (SIGABRT) Job: 2."));
    assert_eq!(found["exit"], lost("Worker exited prematurely: exitcode 7 Job: 3."));
    assert_eq!(found["panic"][1], "oh no");
    assert_eq!((&found["bystander"], &found["after"]), (&json!(true), &json!(true)));
    assert_eq!(found["back"], "second", "reject_on_worker_lost requeues");
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn a_killed_child_is_reported_with_its_signal_and_its_late_task_retried_if_so_set() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 1 --task-retry-on-worker-lost --task-track-started");
    let found = bench.script(
        r#"
result = call("sleep", 300, task_id="lost")
def children():
    stats = list(app.control.inspect(timeout=5).stats().values())[0]
    return [pid for pid in stats["pool"]["processes"] if pid != stats["pid"] and result.state == "STARTED"]
pids = eventually(children, "child")
os.kill(pids[-1], 9)
eventually(lambda: result.state == "RETRY", "retry")
print(json.dumps([str(result.result), result.traceback.strip().splitlines()[-1][:40]]))"#,
    );
    assert!(found[0].as_str().unwrap().contains("signal 9 (SIGKILL) Job: 0."), "{found}");
    worker.kill();
}

#[test]
fn a_hard_limit_kills_and_a_soft_limit_is_told() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 1");
    let found = bench.script(
        r#"
before = outcome(call("pid"))
found = {"before": before}
found["hard"] = outcome(call("spin", time_limit=1))
found["gone"] = not os.path.exists(f"/proc/{before}")
found["soft"] = outcome(call("sleep", 300, soft_time_limit=1))
found["told"] = outcome(call("careful", soft_time_limit=1, time_limit=60))
found["after"] = isinstance(outcome(call("pid")), int)
print(json.dumps(found))"#,
    );
    assert_eq!(found["hard"], json!(["billiard.exceptions.TimeLimitExceeded", "TimeLimitExceeded(1,)"]));
    assert_eq!(found["gone"], json!(true), "the child was killed");
    assert_eq!(found["soft"][0], "billiard.exceptions.SoftTimeLimitExceeded");
    assert_eq!(found["told"], "saved");
    assert_eq!(found["after"], json!(true));
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn children_are_replaced_after_so_many_tasks_and_so_much_memory() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 1 --max-tasks-per-child 2");
    let found = bench.script(r#"print(json.dumps([outcome(call("pid")) for _ in range(4)]))"#);
    assert_eq!(found[0], found[1]);
    assert_ne!(found[1], found[2]);
    assert_eq!(found[2], found[3]);
    assert!(worker.terminate(secs(20)).success());

    let mut worker = bench.worker("-c 1 --max-memory-per-child 150000");
    let found = bench.script(
        r#"print(json.dumps([outcome(call(*task)) for task in [("pid",), ("grow", 200), ("pid",), ("pid",)]]))"#,
    );
    assert_eq!(found[0], found[1]);
    assert_ne!(found[1], found[2]);
    assert_eq!(found[2], found[3]);
    worker.wait_for_line("exceeding memory limit", secs(5));
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn the_pool_processes_runs_every_task_in_a_child() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 1 -P processes");
    let found = bench.script(r#"print(json.dumps(outcome(call("worker_pid"))))"#);
    assert_ne!(found, json!(worker.id()));
    assert!(worker.terminate(secs(20)).success());
}
