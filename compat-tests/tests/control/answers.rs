//! The answers of a Rust worker beside those of Celery's.

use compat_tests::secs;
use serde_json::{Value as Json, json};

use crate::stage::{SOON, Stage, shape};

/// One worker of each kind with one slot, which runs a task while others wait for a slot or for their eta.
const BUSY: &str = r#"
nodes = ["py@host", "rs@host"]
for node in ("py", "rs"):
    app.send_task("tools.sleep", (40,), queue=node, task_id=f"{node}-active")
wait_until("active", lambda: len([1 for tasks in ask("active", nodes).values() if tasks]) == 2)
for node in ("py", "rs"):
    app.send_task("tools.add", (1, 2), {}, queue=node, task_id=f"{node}-reserved")
    app.send_task("tools.add", (1,), {"y": 2}, queue=node, task_id=f"{node}-scheduled", countdown=60)
wait_until("reserved", lambda: len([1 for tasks in ask("reserved", nodes).values() if tasks]) == 2)
wait_until("scheduled", lambda: len([1 for tasks in ask("scheduled", nodes).values() if tasks]) == 2)
ask("revoke", nodes, task_id="gone")
"#;

fn assert_alike(what: &str, answers: &Json) {
    let (python, rust) = (&answers["py@host"], &answers["rs@host"]);
    assert!(!python.is_null() && !rust.is_null(), "{what}: {answers}");
    assert_eq!(shape(rust), shape(python), "{what}: ours {rust}\ntheirs {python}");
}

#[test]
fn every_inspect_command_answers_in_the_shape_of_celerys_worker() {
    let stage = Stage::new();
    let _rust = stage.rust_worker("-n rs@host -Q rs -c 1");
    let _python = stage.python_worker("-n py@host -Q py -c 1");
    let answers = stage.script(&format!(
        r#"{BUSY}
commands = ["ping", "active", "reserved", "scheduled", "revoked", "registered", "stats", "active_queues", "clock",
            "report", "greet"]
answers = {{name: cli_json("inspect", name, "-d", "py@host,rs@host", "-t", "10") for name in commands}}
ids = ["py-active", "rs-active", "py-reserved", "rs-reserved", "py-scheduled", "rs-scheduled", "nope"]
answers["query_task"] = cli_json("inspect", "query_task", "-d", "py@host,rs@host", *ids)
answers["registered items"] = cli_json("inspect", "registered", "-d", "py@host,rs@host", "rate_limit", "max_retries", "acks_late")
answers["conf"] = cli_json("inspect", "conf", "-d", "py@host,rs@host")
answers["conf defaults"] = ask("conf", nodes, with_defaults=True)
answers["active safe"] = ask("active", nodes, safe=True)
answers["aliases"] = {{alias: ask(alias, ["rs@host"]) for alias in (
    "dump_active", "dump_reserved", "dump_schedule", "dump_revoked", "dump_tasks", "dump_conf")}}
answers["rss"] = [ask(name, ["rs@host"])["rs@host"] for name in ("memsample", "memdump")]
answers["status"] = cli("status")
answers["list bindings"] = cli("list", "bindings")
show(answers)
"#
    ));
    for command in
        ["ping", "active", "reserved", "scheduled", "revoked", "stats", "active_queues", "clock", "report"]
    {
        assert_alike(command, &answers[command]);
    }
    assert_alike("active safe", &answers["active safe"]);
    for command in ["ping", "registered", "registered items", "revoked", "greet"] {
        assert_eq!(answers[command]["rs@host"], answers[command]["py@host"], "{command}");
    }
    assert_eq!(answers["revoked"]["rs@host"], json!(["gone"]));

    let query = &answers["query_task"];
    for (node, other) in [("rs", "py"), ("py", "rs")] {
        let found = &query[format!("{node}@host")];
        for state in ["active", "reserved", "scheduled"] {
            assert_eq!(found[format!("{node}-{state}")][0], state, "{found}");
            assert!(
                found.get(format!("{other}-{state}")).is_none() && found.get("nope").is_none(),
                "{found}"
            );
        }
    }
    let (ours, theirs) = (&query["rs@host"]["rs-scheduled"], &query["py@host"]["py-scheduled"]);
    assert_eq!(shape(ours), shape(theirs));
    assert_eq!((&ours[1]["args"], &ours[1]["kwargs"]), (&theirs[1]["args"], &theirs[1]["kwargs"]));
    let (ours, theirs) = (&answers["active safe"]["rs@host"][0], &answers["active safe"]["py@host"][0]);
    assert_eq!((&ours["args"], &ours["type"]), (&theirs["args"], &theirs["type"]));

    let conf = &answers["conf"]["rs@host"];
    assert!(conf["broker_url"].as_str().unwrap().starts_with("redis://"), "{conf}");
    let (ours, theirs) = (&answers["conf defaults"]["rs@host"], &answers["conf defaults"]["py@host"]);
    assert_eq!(ours["task_acks_late"], theirs["task_acks_late"]);
    assert_eq!(ours["worker_prefetch_multiplier"], theirs["worker_prefetch_multiplier"]);
    for (alias, answer) in answers["aliases"].as_object().unwrap() {
        assert!(answer["rs@host"].is_array() || answer["rs@host"].is_object(), "{alias}: {answer}");
    }
    assert!(answers["rss"][0].as_str().unwrap().ends_with("MB"), "{}", answers["rss"]);
    assert!(answers["rss"][1].as_str().unwrap().contains("- rss (end): "), "{}", answers["rss"]);
    let status = answers["status"][1].as_str().unwrap();
    assert!(status.contains("rs@host: OK") && status.contains("2 nodes online."), "{status}");
    assert_eq!(answers["list bindings"][0], 0, "{}", answers["list bindings"]);
}

#[test]
fn passwords_are_in_no_answer() {
    let redis = compat_tests::RedisServer::options().password("hunter2").start();
    let mut command = std::process::Command::new(compat_tests::binary("tools-worker"));
    command.args(["-n", "rs@host", "-l", "info"]);
    command.env("CELERY_BROKER_URL", redis.url()).env("CELERY_RESULT_BACKEND", redis.url());
    command.env("CELERY_BROKER_TRANSPORT_OPTIONS", r#"{"sentinel_kwargs": {"password": "hunter2"}}"#);
    let mut worker = compat_tests::Process::spawn("rs@host", &command);
    worker.wait_for_line(" ready", secs(20));
    let mut config = celeriac::config::Config::default();
    config.set("broker_url", &redis.url()).unwrap();
    let app = celeriac::Celery::new("tools", config).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for command in ["conf", "stats", "report"] {
        let arguments = celeriac::message::Map::from([("with_defaults".to_owned(), true.into())]);
        let arguments = if command == "report" { Default::default() } else { arguments };
        let replies = runtime.block_on(app.control().inspect().request(command, arguments)).unwrap();
        assert_eq!(replies.len(), 1);
        let shown = format!("{replies:?}");
        assert!(!shown.contains("hunter2"), "{command}: {shown}");
    }
    assert!(worker.lines_with("hunter2").is_empty());
}

/// The same answer, to the letter, from both; `{node}` stands for the node's own.
#[test]
fn unknown_and_ill_formed_commands_are_answered_as_by_celerys_worker() {
    let stage = Stage::new();
    let mut rust = stage.rust_worker("-n rs@host -Q rs -c 1");
    let _python = stage.python_worker("-n py@host -Q py -c 1");
    let answers = stage.script(
        r#"
nodes = ["py@host", "rs@host"]
calls = [
    ("no_such_command", {}), ("", {}),
    ("ping", {"surprise": 1}), ("ping", {"state": 1}),
    ("enable_events", {"surprise": 1}), ("report", {"x": 1}), ("heartbeat", {"x": 1}), ("active_queues", {"x": 1}),
    ("rate_limit", {}), ("rate_limit", {"task_name": "tools.add"}),
    ("rate_limit", {"task_name": "nope", "rate_limit": "10/m"}),
    ("rate_limit", {"task_name": "tools.add", "rate_limit": "abc"}),
    ("rate_limit", {"task_name": "tools.add", "rate_limit": "1/d"}),
    ("rate_limit", {"task_name": "tools.add", "rate_limit": "10/m"}),
    ("rate_limit", {"task_name": "tools.add", "rate_limit": 0}),
    ("time_limit", {}), ("time_limit", {"task_name": "nope", "hard": 1}),
    ("time_limit", {"task_name": "tools.add", "hard": 30, "soft": 20}),
    ("revoke", {}), ("revoke", {"task_id": "one"}), ("revoke", {"task_id": []}), ("revoke", {"task_id": None}),
    ("revoke", {"task_id": "nope", "terminate": True, "signal": "SIGTERM"}),
    ("revoke", {"task_id": "nope", "terminate": True, "signal": "sigterm"}),
    ("revoke", {"task_id": "nope", "terminate": True, "signal": "SIGFOO"}),
    ("terminate", {"task_id": "nope"}), ("terminate", {"task_id": "nope", "signal": "KILL"}),
    ("revoke_by_stamped_headers", {}),
    ("revoke_by_stamped_headers", {"headers": {"tenant": ["acme", 1]}}),
    ("revoke_by_stamped_headers", {"headers": ["tenant=acme"]}),
    ("revoke_by_stamped_headers", {"headers": {"tenant": "zzz"}, "terminate": True}),
    ("revoke_by_stamped_headers", {"headers": "tenant"}),
    ("hello", {}), ("query_task", {}), ("election", {}), ("election", {"id": "1"}),
    ("query_task", {"ids": "nope"}), ("add_consumer", {}), ("cancel_consumer", {}),
    ("cancel_consumer", {"queue": "nope"}), ("add_consumer", {"queue": "extra"}),
    ("autoscale", {"max": 3, "min": 1}), ("autoscale", {"surprise": 3}),
    ("pool_grow", {}), ("pool_shrink", {"n": 1}), ("pool_restart", {}),
    ("disable_events", {}), ("enable_events", {}), ("enable_events", {}), ("disable_events", {}),
    ("heartbeat", {}), ("memdump", {"samples": 1, "other": 2}), ("objgraph", {}),
]
answers = []
for command, arguments in calls:
    replies = ask(command, nodes, **arguments)
    answers.append([[command, arguments], replies.get("py@host", "none"), replies.get("rs@host", "none")])
show(answers)
"#,
    );
    let mut differences = Vec::new();
    for answer in answers.as_array().unwrap() {
        let (call, theirs, ours) = (&answer[0], &answer[1], &answer[2]);
        // psutil and objgraph are not there; ours needs neither.
        let is_known = ["memdump"].contains(&call[0].as_str().unwrap());
        if ours != theirs && !is_known {
            differences.push(format!("{call}\n  ours   {ours}\n  theirs {theirs}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(rust.is_running());
}

#[test]
fn broken_control_messages_are_passed_over() {
    let stage = Stage::new();
    let mut rust = stage.rust_worker("-n rs@host -c 1");
    let mut redis = stage.redis.connection();
    let envelope = |body: &str, kind: &str| {
        json!({
            "body": body, "content-type": kind, "content-encoding": "utf-8", "headers": {},
            "properties": {"body_encoding": null, "delivery_tag": "x", "delivery_mode": 2, "priority": 0,
                           "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""}},
        })
        .to_string()
    };
    let messages = [
        "".to_owned(),
        "{".to_owned(),
        "[1]".to_owned(),
        envelope("{", "application/json"),
        envelope("[]", "application/json"),
        envelope("{}", "application/json"),
        envelope("{\"method\": 5}", "application/json"),
        envelope("{\"method\": \"ping\", \"pattern\": \"*\", \"matcher\": \"sql\"}", "application/json"),
        envelope("{\"method\": \"ping\", \"pattern\": \"(\", \"matcher\": \"pcre\"}", "application/json"),
        envelope("{\"method\": \"ping\", \"reply_to\": 7, \"ticket\": {}}", "application/json"),
        envelope("x", "application/x-python-serialize"),
    ];
    for message in &messages {
        redis::cmd("PUBLISH").arg("/0.celery.pidbox").arg(message).exec(&mut redis).unwrap();
    }
    let answers = stage.script("show(ask('ping', ['rs@host']))");
    assert_eq!(answers, json!({"rs@host": {"ok": "pong"}}));
    assert!(rust.is_running());
}

#[test]
fn patterns_choose_workers_as_celerys_client_expects() {
    let stage = Stage::new();
    let _one = stage.rust_worker("-n w1@host -c 1");
    let _two = stage.rust_worker("-n w2@host -c 1");
    let answers = stage.script(
        r#"
def nodes(**choice):
    replies = app.control.broadcast("ping", reply=True, timeout=1, **choice)
    return sorted(node for reply in replies for node in reply)
show([nodes(pattern="w2@*", matcher="glob"), nodes(pattern="w[12]@", matcher="pcre"), nodes(pattern="nobody", matcher="glob"),
      nodes(destination=["w1@host"]), nodes(destination=["w3@host"]), nodes()])
"#,
    );
    assert_eq!(
        answers,
        json!([["w2@host"], ["w1@host", "w2@host"], [], ["w1@host"], [], ["w1@host", "w2@host"]])
    );
}

#[test]
fn every_command_of_celerys_command_line_works() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 2 -E");
    let mut events = stage.celery("events --dump").spawn();
    events.wait_for_line(r"rs@host \[.*\] (started|heartbeat): active=0, .*freq=", secs(30));
    let outputs = stage.script(
        r#"
lines = ["rate_limit tools.add 100/m", "time_limit tools.sleep 20 30", "add_consumer extra", "cancel_consumer extra",
         "pool_grow 2", "pool_shrink 1", "pool_restart", "disable_events", "enable_events", "heartbeat",
         "revoke some-id", "terminate SIGTERM some-id", "revoke_by_stamped_headers tenant=acme"]
outputs = {line: cli("control", "-j", "-t", "5", "-d", "rs@host", *line.split()) for line in lines}
result = cli("call", "tools.add", "-a", "[1, 2]")[1].strip()
app.AsyncResult(result).get(timeout=10)
outputs["result"] = cli("result", result)
add.apply_async((1, 2), queue="waiting")
outputs["purge"] = cli("purge", "-f", "-Q", "waiting")
outputs["status"] = cli("status", "-j")
outputs["inspect text"] = cli("inspect", "stats", "-d", "rs@host")
outputs["shutdown"] = cli("control", "shutdown", "-d", "rs@host")
show(outputs)
"#,
    );
    for (line, expected) in [
        ("rate_limit tools.add 100/m", json!({"ok": "new rate limit set successfully"})),
        ("time_limit tools.sleep 20 30", json!({"ok": "time limits set successfully"})),
        ("add_consumer extra", json!({"ok": "add consumer extra"})),
        ("cancel_consumer extra", json!({"ok": "no longer consuming from extra"})),
        ("pool_grow 2", json!({"ok": "pool will grow"})),
        ("pool_shrink 1", json!({"ok": "pool will shrink"})),
        ("pool_restart", json!({"ok": "reload started"})),
        ("disable_events", json!({"ok": "task events disabled"})),
        ("enable_events", json!({"ok": "task events enabled"})),
        ("heartbeat", Json::Null),
        ("revoke some-id", json!({"ok": "tasks {'some-id'} flagged as revoked"})),
        ("terminate SIGTERM some-id", json!({"ok": "terminate: tasks unknown"})),
    ] {
        let (status, output) = (&outputs[line][0], outputs[line][1].as_str().unwrap());
        let answers: Json =
            serde_json::from_str(output).unwrap_or_else(|_| panic!("{line}: {status} {output}"));
        assert_eq!((status, &answers[0]["rs@host"]), (&json!(0), &expected), "{line}: {output}");
    }
    assert_eq!(outputs["result"], json!([0, "3\n"]));
    assert!(
        outputs["purge"][1].as_str().unwrap().contains("Purged 1 message from 1 known task queue."),
        "{outputs}"
    );
    assert_eq!(outputs["status"][0], 0, "{outputs}");
    assert!(outputs["inspect text"][1].as_str().unwrap().contains("max-concurrency"), "{outputs}");
    events.wait_for_line(
        r"rs@host \[.*\] task succeeded: tools.add\(.*\) args=\[1, 2\] kwargs=\{\} .*result=3",
        secs(10),
    );
    events.wait_for_line(r"rs@host \[.*\] shutdown", secs(10));
}

#[test]
fn what_cannot_be_read_is_logged_once_and_the_next_command_is_answered() {
    let stage = Stage::new();
    let mut worker = stage.rust_worker("-n rs@host -c 1");
    let mut redis = stage.redis.connection();
    let body = r#"{"body": "bm8gSlNPTg==", "content-type": "application/json", "content-encoding": "utf-8", "headers": {}, "properties": {"body_encoding": "base64", "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""}}}"#;
    for _ in 0..200 {
        for message in ["no message", body] {
            redis::cmd("PUBLISH").arg("/0.celery.pidbox").arg(message).exec(&mut redis).unwrap();
        }
    }
    worker.wait_for_line("cannot be read", SOON);
    assert_eq!(stage.script("show(ask('ping'))"), json!({"rs@host": {"ok": "pong"}}));
    assert!(worker.lines_with("cannot be read").len() <= 2, "{:?}", worker.lines_with("cannot be read"));
}

#[test]
fn a_state_file_that_cannot_be_written_is_named_once_until_it_can() {
    let stage = Stage::new();
    let folder = compat_tests::scratch_dir("statedb");
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let mut worker =
        stage.rust_worker(&format!("-n rs@host -c 1 -l debug --statedb {}", inner.join("state").display()));
    std::fs::remove_dir_all(&inner).unwrap();
    stage.script("ask('revoke', ['rs@host'], task_id=['one'])\nshow(1)");
    worker.wait_for_line("Revoked tasks are not kept", SOON);
    worker.wait_for_line("cannot be written again", SOON);
    std::fs::create_dir(&inner).unwrap();
    worker.wait_for_line(r"kept in .* again, after [2-9] failed attempt", SOON);
    assert_eq!(worker.lines_with("Revoked tasks are not kept").len(), 1);
    assert!(std::fs::read_to_string(inner.join("state")).unwrap().contains("one"));
}
