//! What a Rust worker's events tell, beside those of Celery's worker.

use celeriac::events::{LogicalClock, Receiver, State};
use compat_tests::{Signal, secs};
use serde_json::{Value as Json, json};

use crate::stage::{SOON, Stage};

/// Collects all events.
const LISTEN: &str = r#"
import threading
events = []
started = threading.Event()
def listen():
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": events.append})
        for _ in receiver.consume(limit=None, timeout=60, wakeup=True):
            started.set()
threading.Thread(target=listen, daemon=True).start()
wait_until("a heartbeat", lambda: {"py@host", "rs@host"} <= {event["hostname"] for event in list(events)})
"#;

#[test]
fn events_are_those_of_celerys_worker() {
    let stage = Stage::new();
    let _rust = stage.rust_worker("-n rs@host -Q rs -c 1 -E");
    let _python = stage.python_worker("-n py@host -Q py -c 1 -E");
    let seen = stage.script(&format!("{LISTEN}{}",
        r#"
app.conf.task_send_sent_event = True
for node in ("py", "rs"):
    app.send_task("tools.add", (1, 2), queue=node, task_id=f"{node}-add")
    app.send_task("tools.fail", ("boom",), queue=node, task_id=f"{node}-fail")
    app.send_task("tools.retry", queue=node, task_id=f"{node}-retry")
    app.send_task("tools.add", (1,), {"y": 2}, queue=node, task_id=f"{node}-expired", expires=-5)
    app.send_task("tools.add", ("text",), queue=node, task_id=f"{node}-args", shadow="another.name")
    app.send_task("no.such.task", queue=node, task_id=f"{node}-unknown")
    app.send_task("tools.sleep", (30,), queue=node, task_id=f"{node}-ended")
    wait_until("it runs", lambda: any(task["id"] == f"{node}-ended" for task in ask("active", [f"{node}@host"])[f"{node}@host"]))
    app.control.terminate(f"{node}-ended")
    app.send_task("tools.add", (3, 4), queue=node, task_id=f"{node}-last")
of = lambda node, what: [event for event in list(events) if event.get("uuid") == f"{node}-{what}"]
done = lambda: all(any(event["type"] == "task-succeeded" for event in of(node, what)) for node in ("py", "rs") for what in ("retry", "last"))
wait_until("the last tasks are done", done, 30)
wait_until("both beat", lambda: all(any(event["hostname"] == f"{node}@host" and event["type"] == "worker-heartbeat" and event["freq"] != 5 for event in list(events)) for node in ("py", "rs")))
whats = ["add", "fail", "retry", "expired", "args", "unknown", "ended", "last"]
workers = {node: [event for event in events if event["hostname"] == f"{node}@host" and event["type"] == "worker-heartbeat" and event["freq"] != 5] for node in ("py", "rs")}
show([{what: [of("py", what), of("rs", what)] for what in whats}, workers])
"#,
    ));
    let kinds = |events: &Json| -> Vec<String> {
        events.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    };
    // Clients and pool processes tell of the same task: only what one of them tells has an order.
    let sorted = |events: &Json| {
        let mut events = events.as_array().unwrap().clone();
        events.sort_by_key(|event| event["type"].as_str().unwrap().to_owned());
        Json::from(events)
    };
    // The receiver adds a field; exceptions and tracebacks are each language's own.
    let names = |event: &Json| event.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for (what, both) in seen[0].as_object().unwrap() {
        let (theirs, ours) = (&sorted(&both[0]), &sorted(&both[1]));
        assert_eq!(kinds(ours), kinds(theirs), "{what}");
        for (our, their) in ours.as_array().unwrap().iter().zip(theirs.as_array().unwrap()) {
            assert_eq!(names(our), names(their), "{what}");
            let told =
                ["name", "args", "kwargs", "retries", "result", "terminated", "signum", "expired", "requeue"];
            for field in told.into_iter().filter(|field| their.get(*field).is_some()) {
                assert_eq!(our[field], their[field], "{what} {}: {field}", our["type"]);
            }
            if what != "args" {
                assert_eq!(our.get("exception"), their.get("exception"), "{what} {}", our["type"]);
            }
        }
    }
    for node in ["py", "rs"] {
        assert!(!seen[1][node].as_array().unwrap().is_empty(), "{node} beats");
    }
    let last = |node: &str| seen[1][node].as_array().unwrap().last().unwrap().clone();
    let (ours, theirs) = (last("rs"), last("py"));
    assert_eq!(names(&ours), names(&theirs));
    assert_eq!((&ours["freq"], &ours["sw_sys"]), (&theirs["freq"], &theirs["sw_sys"]));
}

#[test]
fn events_of_tasks_are_switched_on_and_off_by_remote_control() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 1");
    let answers = stage.script(
        r#"
def events_of_a_task():
    events = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": events.append})
        listening = receiver.consume(limit=None, timeout=1, wakeup=False)
        next(listening)
        add.delay(1, 2).get(timeout=5)
        try:
            for _ in listening:
                pass
        except OSError:
            pass  # nothing comes any more
    return [event["type"] for event in events if event["type"].startswith("task-")]
control = lambda command: ask(command, ["rs@host"])["rs@host"]["ok"]
show([control("disable_events"), events_of_a_task(), control("enable_events"), control("enable_events"), events_of_a_task(),
      control("disable_events"), events_of_a_task()])
"#,
    );
    assert_eq!(
        answers,
        json!([
            "task events already disabled",
            [],
            "task events enabled",
            "task events already enabled",
            ["task-received", "task-started", "task-succeeded"],
            "task events disabled",
            []
        ])
    );
}

/// A task may be silent, and a cold shutdown is told of each task that it ends.
#[test]
fn silent_tasks_and_cold_shutdowns_are_told_as_by_celerys_worker() {
    let stage = Stage::new();
    let mut rust = stage.rust_worker("-n rs@host -Q rs -c 3 -E");
    let mut python = stage.python_worker("-n py@host -Q py -c 3 -E");
    let told = |ask_for: &str| stage.script(&format!("{LISTEN}{ask_for}"));
    let pids = json!({"py": python.id(), "rs": rust.id()});
    let seen = told(&format!(
        r#"
import os, signal
for node, pid in {pids}.items():
    app.send_task("tools.quiet", queue=node, task_id=f"{{node}}-quiet").get(timeout=10)
    app.send_task("tools.sleep", (60,), queue=node, task_id=f"{{node}}-early")
    app.send_task("tools.late", (60,), queue=node, task_id=f"{{node}}-late")
    wait_until("both run", lambda: len(ask("active", [f"{{node}}@host"])[f"{{node}}@host"]) == 2)
    os.kill(pid, signal.SIGQUIT)
    wait_until("it says goodbye", lambda: any(event["type"] == "worker-offline" and event["hostname"] == f"{{node}}@host" for event in list(events)))
of = lambda node, what: [{{key: value for key, value in event.items() if key in ("type", "uuid")}} for event in list(events) if event.get("uuid") == f"{{node}}-{{what}}"]
kinds = lambda node, what: sorted(event["type"] for event in of(node, what))
wait_until("both were cancelled", lambda: all("task-cancelled" in kinds(node, what) for node in ("py", "rs") for what in ("early", "late")))
stored = {{node: app.backend.get_task_meta(f"{{node}}-early") for node in ("py", "rs")}}
states = {{node: [meta["status"], type(meta["result"]).__name__] for node, meta in stored.items()}}
show([{{what: [kinds("py", what), kinds("rs", what)] for what in ("quiet", "early", "late")}}, states])
"#
    ));
    assert_eq!(seen[0]["quiet"], json!([[], []]));
    for what in ["early", "late"] {
        assert_eq!(seen[0][what][1], json!(["task-cancelled", "task-received", "task-started"]), "{seen}");
        assert_eq!(seen[0][what][1], seen[0][what][0], "{what}");
    }
    assert_eq!(seen[1]["rs"], seen[1]["py"]);
    rust.wait(SOON);
    python.wait(SOON);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_goes_on_after_the_broker_was_away_and_finds_the_workers_at_once() {
    let mut stage = Stage::new();
    // A heartbeat every minute: who listens asks for one.
    let _worker = stage.rust_worker("-n rs@host -c 1 -E --heartbeat-interval 60");
    let app = stage.client();
    let mut receiver = app.events("#").await;
    let heartbeat = tokio::time::timeout(SOON, receiver.next()).await.expect("a heartbeat").unwrap();
    assert_eq!((heartbeat.kind(), heartbeat.hostname()), ("worker-heartbeat", Some("rs@host")));
    stage.redis.kill();
    stage.redis.restart();
    let seen = async {
        loop {
            let sent = app.send_task("tools.add", [1, 2], []).await;
            let received = tokio::time::timeout(secs(1), receiver.next()).await;
            if let (Ok(_), Ok(Some(event))) = (sent, received)
                && event.kind() == "task-received"
            {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, seen).await.expect("events come again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_and_its_state_follow_workers_of_both_kinds() {
    let stage = Stage::new();
    let mut config = stage.client().config().clone();
    config.task_send_sent_event = true;
    let app = celeriac::Celery::new("tools", config).unwrap();
    let clock = LogicalClock::default();
    let mut receiver = Receiver::open(app.broker(), "celeryev", "#", clock.clone()).await;
    let mut rust = stage.rust_worker("-n rs@host -Q rs -c 1 -E");
    let _python = stage.python_worker("-n py@host -Q py -c 1 -E");
    for queue in ["rs", "py"] {
        for (task, args) in
            [("tools.add", json!([1, 2])), ("tools.fail", json!(["boom"])), ("tools.retry", json!([]))]
        {
            let celeriac::Value::List(args) = celeriac::Value::from(args) else { panic!("a list") };
            let mut signature =
                celeriac::message::Signature { task: task.to_owned(), args, ..Default::default() };
            signature.options.insert("queue".to_owned(), queue.into());
            signature.options.insert("task_id".to_owned(), format!("{queue}-{task}").into());
            app.apply(signature).await.unwrap();
        }
    }
    let mut state = State::default();
    let mut last_clock = 0;
    let ended = |state: &State| {
        let is_ended = |id: String| state.task(&id).is_some_and(|task| task.is_ready());
        ["rs", "py"].iter().all(|queue| {
            ["add", "fail", "retry"].iter().all(|task| is_ended(format!("{queue}-tools.{task}")))
        })
    };
    let follow = async {
        while !ended(&state) {
            let event = receiver.next().await.unwrap();
            state.event(&event);
            assert!(clock.value() >= last_clock, "the clock went back");
            last_clock = clock.value();
        }
    };
    tokio::time::timeout(SOON, follow).await.expect("all tasks are seen to end");
    for queue in ["rs", "py"] {
        let task = |name: &str| state.task(&format!("{queue}-tools.{name}")).unwrap();
        let host = format!("{queue}@host");
        assert_eq!(
            (task("add").state.as_str(), task("add").worker.as_deref()),
            ("SUCCESS", Some(host.as_str()))
        );
        assert_eq!(task("add").get("result").unwrap().as_str(), Some("3"));
        assert!(task("add").get("runtime").unwrap().as_f64().unwrap() >= 0.0);
        assert_eq!(task("fail").state, "FAILURE");
        assert_eq!(task("fail").get("exception").unwrap().as_str(), Some("ValueError('boom')"));
        assert!(task("retry").time_of("retried").is_some());
        let worker = state.worker(&host).unwrap();
        assert!(worker.is_alive(), "{worker:?}");
    }
    let mut types: Vec<_> = state.task_types().collect();
    types.sort_unstable();
    assert_eq!(types, ["tools.add", "tools.fail", "tools.retry"]);

    rust.terminate(secs(10));
    let leaves = async {
        while state.worker("rs@host").is_some() {
            let event = receiver.next().await.unwrap();
            state.event(&event);
        }
    };
    tokio::time::timeout(SOON, leaves).await.expect("the worker says goodbye");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_while_the_broker_is_away() {
    let mut stage = Stage::new();
    let worker = stage.rust_worker("-n rs@host -c 4 -E");
    let app = stage.client();
    // Runs on while the broker is away, so that its end is told only when it is back.
    let folder = compat_tests::scratch_dir("handshake");
    let file = |name: &str| folder.path().join(name);
    let path = folder.path().to_str().unwrap();
    let _running = app.send_task("tools.handshake", [path], []).await.unwrap();
    compat_tests::eventually("it runs", SOON, || file("started").exists());
    stage.redis.kill();
    std::fs::write(file("go"), "").unwrap();
    compat_tests::eventually("it has ended", SOON, || file("done").exists());
    // The worker would be back before anybody listens.
    worker.signal(Signal::SIGSTOP);
    stage.redis.restart();
    let mut receiver = Receiver::open(app.broker(), "celeryev", "task.#", LogicalClock::default()).await;
    worker.signal(Signal::SIGCONT);
    let mut next =
        async || tokio::time::timeout(SOON, receiver.next()).await.expect("the event comes late").unwrap();
    let mut event = next().await;
    // What came before may have waited too.
    while ["task-received", "task-started"].contains(&event.kind()) {
        event = next().await;
    }
    assert_eq!(event.kind(), "task-succeeded");
}
