//! Workers of both kinds that know of each other.

use compat_tests::{eventually, secs};
use serde_json::json;

use crate::stage::{SOON, Stage};

#[test]
fn one_python_and_two_rust_workers_are_one_fleet() {
    let stage = Stage::new();
    let mut python = stage.python_worker("-n py@host -c 1");
    stage.script("ask('revoke', ['py@host'], task_id=['old-1', 'old-2'])\nshow(1)");
    let one = stage.rust_worker("-n r1@host -c 1");
    eventually("mingled", SOON, || !one.lines_with("sync with 1 nodes complete").is_empty());
    let _two = stage.rust_worker("-n r2@host -c 1");
    let answers = stage.script(
        r#"
nodes = ["py@host", "r1@host", "r2@host"]
shared = {node: sorted(ids) for node, ids in ask("revoked", nodes).items()}
status = cli("status")
clocks = []
for _ in range(20):
    clocks.append({node: answer["clock"] for node, answer in ask("clock", nodes).items()})
backwards = [node for node in nodes if any(later[node] <= earlier[node] for earlier, later in zip(clocks, clocks[1:]))]
last = list(ask("clock", nodes).values())
spread = max(each["clock"] for each in last) - min(each["clock"] for each in last)
app.control.revoke("everywhere")
wait_until("all know", lambda: all("everywhere" in ids for ids in ask("revoked", nodes).values()))
show([shared, status, backwards, spread < 50])
"#,
    );
    let old = json!(["old-1", "old-2"]);
    assert_eq!(answers[0], json!({"py@host": old, "r1@host": old, "r2@host": old}));
    assert!(answers[1][1].as_str().unwrap().contains("3 nodes online."), "{}", answers[1]);
    assert_eq!((&answers[2], &answers[3]), (&json!([]), &json!(true)));

    // A Python worker that comes later learns from the Rust ones.
    assert!(python.terminate(secs(20)).success());
    let _late = stage.python_worker("-n late@host -c 1");
    let known = stage.script("show(sorted(ask('revoked', ['late@host'])['late@host']))");
    assert_eq!(known, json!(["everywhere", "old-1", "old-2"]));
}

#[test]
fn workers_elect_one_who_does_the_action() {
    let stage = Stage::new();
    let one = stage.rust_worker("-n r1@host -c 1");
    let two = stage.rust_worker("-n r2@host -c 1");
    let _python = stage.python_worker("-n py@host -c 1");
    let states = stage.script(
        r#"
heartbeats = lambda events, node: [1 for event in events if event["type"] == "worker-heartbeat" and event["hostname"] == node]
# Two heartbeats of each have made the workers known to each other.
collect_events(lambda events: all(len(heartbeats(events, node)) > 1 for node in ("py@host", "r1@host", "r2@host")), 60)
signatures = [add.s(1, n).set(task_id=f"elected-{n}") for n in range(3)]
for n, signature in enumerate(signatures):
    app.control.election(f"election-{n}", "task", dict(signature))
    wait_until("the action is done", lambda: app.AsyncResult(f"elected-{n}").ready())
results = [app.AsyncResult(f"elected-{n}") for n in range(3)]
show([[result.get() for result in results], sum(sum(stats["total"].values()) for stats in ask("stats", ["py@host", "r1@host", "r2@host"]).values())])
"#,
    );
    assert_eq!(states, json!([[1, 2, 3], 3]), "{:?} {:?}", one.lines(), two.lines());
}

#[test]
fn a_worker_that_goes_silent_is_missed_by_the_others() {
    let stage = Stage::new();
    let one = stage.rust_worker("-n r1@host -c 1 --heartbeat-interval 1");
    let mut two = stage.rust_worker("-n r2@host -c 1 --heartbeat-interval 1");
    let mut three = stage.rust_worker("-n r3@host -c 1 --heartbeat-interval 1");
    stage.script(
        r#"
heartbeats = lambda events, node: [1 for event in events if event["type"] == "worker-heartbeat" and event["hostname"] == node]
collect_events(lambda events: all(len(heartbeats(events, node)) > 1 for node in ("r1@host", "r2@host", "r3@host")), 60)
show("they know each other")
"#,
    );
    two.kill();
    assert!(three.terminate(SOON).success());
    eventually("it is missed", SOON, || !one.lines_with("missed heartbeat from r2@host").is_empty());
    assert!(one.lines_with("missed heartbeat from r3@host").is_empty(), "who says goodbye is not missed");
}

#[test]
fn workers_that_stop_together_claim_no_dropped_messages() {
    let stage = Stage::new();
    let names = ["r1", "r2", "r3", "r4", "r5", "r6"];
    let start = |name: &&str| stage.rust_worker(&format!("-n {name}@host -c 1 --heartbeat-interval 0.02"));
    let mut workers: Vec<_> = names.iter().map(start).collect();
    for worker in &workers {
        worker.signal(nix::sys::signal::Signal::SIGTERM);
    }
    for worker in &mut workers {
        assert!(worker.wait(SOON).success());
        assert_eq!(worker.lines_with("dropped"), Vec::<String>::new());
    }
}

#[test]
fn a_worker_says_which_settings_differ_from_those_of_the_others_on_its_queues() {
    let stage = Stage::new();
    let options = |options: &str| format!("--broker-transport-options={options}");
    let _python = stage.python_worker_with(r#"{"visibility_timeout": 60}"#, "-n py@host -c 1");
    // Celery's worker says that it is ready a little before it listens.
    stage.script("wait_until('it answers', lambda: ask('ping', ['py@host']))\nshow(0)");
    let _elsewhere = stage
        .rust_worker(&format!("-n other@host -c 1 -Q another {}", options(r#"{"visibility_timeout":7}"#)));
    let mut one = stage.rust_worker("-n r1@host -c 1");
    let line = one.wait_for_line("py@host consume", SOON);
    assert!(line.contains("visibility_timeout 60, and this worker with 3600"), "{line}");
    let mut two = stage.rust_worker(&format!(
        "-n r2@host -c 1 {}",
        options(r#"{"visibility_timeout":60,"priority_steps":[0,5]}"#)
    ));
    for differs in [
        r"r1@host consume.* visibility_timeout 3600",
        r"py@host, r1@host consume.* priority_steps \[0, 3, 6, 9\]",
    ] {
        two.wait_for_line(differs, SOON);
    }
    let mut apart = stage.rust_worker(&format!("-n r5@host -c 1 {}", options(r#"{"sep":":"}"#)));
    apart.wait_for_line(r"Queue\(s\) celery are bound with the sep", SOON);
    assert!(apart.terminate(secs(20)).success());
    let _python_apart = stage.python_worker_with(r#"{"global_keyprefix": "apart:"}"#, "-n py2@host -c 1");
    let mut three =
        stage.rust_worker(&format!("-n r3@host -c 1 {}", options(r#"{"global_keyprefix":"p:"}"#)));
    three.wait_for_line(r#"1 worker\(s\).* global_keyprefix "apart:""#, SOON);
    three.wait_for_line(r#"4 worker\(s\).* global_keyprefix """#, SOON);
    let mut four = stage.rust_worker(&format!("-n r4@host -c 1 {}", options(r#"{"global_keyprefix":"p:"}"#)));
    four.wait_for_line(r#"global_keyprefix "apart:""#, SOON);
    let about =
        |worker: &compat_tests::Process, name: &str| worker.lines_with(&format!("r3@host.*{name}")).len();
    assert_eq!(about(&four, "visibility_timeout"), 0, "what is the same is not said");
    assert_eq!(one.lines_with("other@host").len(), 0, "who consumes other queues may have other settings");
}
