//! Flower 2.2 at a Rust worker: its API and its pages.

use compat_tests::{Port, Process, secs};
use serde_json::{Value as Json, json};

use crate::browser::look_at;
use crate::stage::{SOON, Stage};

fn flower(stage: &Stage) -> (Process, String) {
    let port = Port::free();
    let option = format!("--port={}", port.number());
    let command = stage
        .program("celery", &["-A", "tools_app", "flower", "--address=127.0.0.1", &option])
        .env("FLOWER_UNAUTHENTICATED_API", "1");
    let mut flower = command.spawn();
    flower.wait_for_line("Connected to redis", secs(60));
    (flower, format!("http://127.0.0.1:{}", port.number()))
}

/// Calls of Flower's API for scripts.
fn calls(url: &str) -> String {
    format!(
        r#"
import urllib.error, urllib.parse, urllib.request
def http(method, path, data=None, **query):
    body = json.dumps(data).encode() if data is not None else (b"" if method == "POST" else None)
    url = "{url}" + path + ("?" + urllib.parse.urlencode(query) if query else "")
    request = urllib.request.Request(url, method=method, data=body)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            status, text = response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text
get = lambda path, **query: http("GET", path, **query)
post = lambda path, data=None, **query: http("POST", path, data, **query)
wait_until("flower knows the worker", lambda: "rs@host" in get("/api/workers", refresh=1)[1])
"#
    )
}

#[test]
fn flower_shows_a_rust_worker_and_its_tasks() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 3");
    let (_flower, url) = flower(&stage);
    let answers = stage.script(&format!(
        r#"{}
wait_until("events are on", lambda: ask("enable_events", ["rs@host"])["rs@host"]["ok"] == "task events already enabled")
ids = {{"added": add.delay(1, 2).id, "failed": fail.delay("boom").id, "retried": retry.delay().id, "running": sleep.delay(60).id,
       "revoked": add.apply_async((5, 5), countdown=1).id}}
app.control.revoke(ids["revoked"])
states = {{"added": "SUCCESS", "failed": "FAILURE", "retried": "SUCCESS", "running": "STARTED", "revoked": "REVOKED"}}
task = lambda name: get("/api/task/info/" + ids[name])
wait_until("flower knows how they are", lambda: all(task(name)[0] == 200 and task(name)[1]["state"] == state for name, state in states.items()), 15)
# It sets this one at a heartbeat, not when the worker comes online.
wait_until("flower heard the worker beat", lambda: 'flower_worker_number_of_currently_executing_tasks{{worker="rs@host"}}' in get("/metrics")[1])
worker = get("/api/workers", refresh=1, workername="rs@host")[1]["rs@host"]
show([worker, {{name: task(name)[1] for name in ids}}, get("/api/tasks", limit=10)[1], get("/api/task/types")[1],
      get("/api/queues/length")[1], get("/api/workers", status=1)[1], get("/metrics")[1], get("/healthcheck"), ids])
"#,
        calls(&url)
    ));
    let worker = &answers[0];
    assert_eq!(worker["stats"]["pool"]["max-concurrency"], 3);
    assert_eq!(worker["active_queues"][0]["name"], "celery");
    let registered: Vec<&str> =
        worker["registered"].as_array().unwrap().iter().map(|task| task.as_str().unwrap()).collect();
    assert!(registered.contains(&"tools.limited [rate_limit=1/s]"), "{registered:?}");
    assert!(worker["conf"]["worker_concurrency"] == 3 && worker["timestamp"].is_number(), "{worker}");

    let tasks = &answers[1];
    let added = &tasks["added"];
    assert_eq!(
        (&added["name"], &added["args"], &added["kwargs"]),
        (&json!("tools.add"), &json!("(1, 2)"), &json!("{}"))
    );
    assert_eq!((&added["result"], &added["worker"]), (&json!("3"), &json!("rs@host")));
    assert!(
        added["runtime"].as_f64().unwrap() < 1.0
            && added["received"].is_number()
            && added["started"].is_number()
    );
    assert_eq!(tasks["failed"]["exception"], "ValueError('boom')");
    assert!(tasks["failed"]["traceback"].as_str().unwrap().contains("ValueError"));
    assert!(tasks["retried"]["retried"].is_number() && tasks["revoked"]["revoked"].is_number());
    assert_eq!(answers[2].as_object().unwrap().len(), 5);
    let types = answers[3]["task-types"].to_string();
    assert!(
        ["tools.add", "tools.fail", "tools.retry", "tools.sleep"].iter().all(|name| types.contains(name)),
        "{types}"
    );
    assert_eq!(answers[4]["active_queues"], json!([{"name": "celery", "messages": 0}]));
    assert_eq!(answers[5], json!({"rs@host": true}));
    let metrics = answers[6].as_str().unwrap();
    for line in [
        "flower_worker_online{worker=\"rs@host\"} 1.0",
        "flower_events_total{task=\"tools.add\",type=\"task-succeeded\",worker=\"rs@host\"} 1.0",
        "flower_task_runtime_seconds_count{task=\"tools.add\",worker=\"rs@host\"} 1.0",
        "flower_task_prefetch_time_seconds{task=\"tools.add\",worker=\"rs@host\"}",
        "flower_worker_number_of_currently_executing_tasks{worker=\"rs@host\"}",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    assert_eq!(answers[7], json!([200, "OK"]));

    let id = |name: &str| answers[8][name].as_str().unwrap().to_owned();
    for (page, name, texts) in [
        ("/workers".to_owned(), "flower-workers", vec!["rs@host", "Online"]),
        ("/worker/rs@host".to_owned(), "flower-worker", vec!["Max concurrency", "worker:Slots", "rs@host"]),
        (
            "/tasks".to_owned(),
            "flower-tasks",
            vec!["tools.add", "tools.fail", "SUCCESS", "FAILURE", "REVOKED"],
        ),
        (format!("/task/{}", id("failed")), "flower-task", vec!["tools.fail", "ValueError"]),
        ("/broker".to_owned(), "flower-broker", vec!["celery"]),
    ] {
        let content = look_at(&format!("{url}{page}"), name);
        for text in texts {
            assert!(content.contains(text), "{page} lacks {text:?}:\n{content}");
        }
    }
}

#[test]
fn flower_commands_a_rust_worker() {
    let stage = Stage::new();
    let mut worker = stage.rust_worker("-n rs@host -c 2");
    let (_flower, url) = flower(&stage);
    let answers = stage.script(&format!(
        r#"{}
answers = {{}}
def call(name, path, data=None, **query):
    answers[name] = post(path, data, **query)
slots = lambda: ask("stats", ["rs@host"])["rs@host"]["pool"]["max-concurrency"]
call("apply", "/api/task/apply/tools.add", {{"args": [1, 2]}})
call("async-apply", "/api/task/async-apply/tools.add", {{"args": [3], "kwargs": {{"y": 4}}}})
call("send-task", "/api/task/send-task/tools.add", {{"args": [5, 6]}})
result = lambda: get("/api/task/result/" + answers["send-task"][1]["task-id"], timeout=10)
answers["result"] = result()
call("grow", "/api/worker/pool/grow/rs@host", n=2)
answers["slots grown"] = slots()
call("shrink", "/api/worker/pool/shrink/rs@host", n=1)
answers["slots shrunk"] = slots()
call("restart", "/api/worker/pool/restart/rs@host")
call("autoscale", "/api/worker/pool/autoscale/rs@host", min=1, max=3)
call("add", "/api/worker/queue/add-consumer/rs@host", queue="extra")
answers["queues"] = [queue["name"] for queue in ask("active_queues", ["rs@host"])["rs@host"]]
call("cancel", "/api/worker/queue/cancel-consumer/rs@host", queue="extra")
call("timeout", "/api/task/timeout/tools.sleep", workername="rs@host", hard=30, soft=20)
call("rate limit", "/api/task/rate-limit/tools.add", workername="rs@host", ratelimit="100/m")
call("bad rate limit", "/api/task/rate-limit/tools.add", workername="rs@host", ratelimit="abc")
running = sleep.delay(60)
wait_until("it runs", lambda: ask("active", ["rs@host"])["rs@host"])
call("revoke", "/api/task/revoke/" + running.id, terminate="true")
wait_until("it is revoked", lambda: running.state == "REVOKED")
call("unknown worker", "/api/worker/pool/grow/nobody@host", n=1)
call("shutdown", "/api/worker/shutdown/rs@host")
show(answers)
"#,
        calls(&url)
    ));
    let message = |name: &str| -> (Json, Json) {
        let text = answers[name][1].get("message").unwrap_or(&answers[name][1]).clone();
        (answers[name][0].clone(), text)
    };
    let ok = |text: &str| (json!(200), json!(text));
    assert_eq!(answers["apply"][1]["result"], 3, "{answers}");
    assert_eq!(answers["result"][1]["result"], 11, "{answers}");
    assert_eq!(answers["async-apply"][0], 200);
    assert_eq!(message("grow"), ok("Growing 'rs@host' worker's pool by 2"));
    assert_eq!(message("shrink"), ok("Shrinking 'rs@host' worker's pool by 1"));
    assert_eq!((&answers["slots grown"], &answers["slots shrunk"]), (&json!(4), &json!(3)));
    assert_eq!(message("restart"), ok("Restarting 'rs@host' worker's pool"));
    assert_eq!(message("autoscale").0, 403);
    assert!(message("autoscale").1.as_str().unwrap().contains("Autoscale not enabled"), "{answers}");
    assert_eq!(message("add"), ok("add consumer extra"));
    assert_eq!(answers["queues"], json!(["celery", "extra"]));
    assert_eq!(message("cancel"), ok("no longer consuming from extra"));
    assert_eq!(message("timeout"), ok("time limits set successfully"));
    assert_eq!(message("rate limit"), ok("new rate limit set successfully"));
    assert_eq!(message("bad rate limit").0, 403);
    assert!(message("bad rate limit").1.as_str().unwrap().contains("Invalid rate limit string"), "{answers}");
    assert_eq!(message("revoke").0, 200);
    assert_eq!(message("unknown worker").0, 404);
    assert_eq!(message("shutdown"), ok("Shutting down!"));
    assert!(worker.wait(SOON).success());
}

#[test]
fn flower_shows_what_the_caller_shows_of_hidden_arguments() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 3");
    let (_flower, url) = flower(&stage);
    let found = stage.script(&format!(
        r#"{}
wait_until("events are on", lambda: ask("enable_events", ["rs@host"])["rs@host"]["ok"] == "task events already enabled")
word, hidden = "s3cret", dict(argsrepr="<hidden>", kwargsrepr="<nothing>")
secret = lambda how: app.signature("tools.secret", args=(how, word))
ids = {{how: secret(how).apply_async(**hidden).id for how in ("done", "retry", "args", "replace", "canvas", "exceeded")}}
ids["link"] = "linked"
add.s(1, 1).set(link=[secret("retry").set(immutable=True, task_id="linked", **hidden)]).apply_async()
task = lambda id: get("/api/task/info/" + id)
ended = lambda id: task(id)[0] == 200 and task(id)[1]["state"] in ("SUCCESS", "FAILURE")
wait_until("flower knows the ends", lambda: all(map(ended, ids.values())))
everything = [get("/api/tasks")[1], [get("/task/" + id)[1] for id in ids.values()], [task(id) for id in ids.values()]]
show([{{how: [task(id)[1]["args"], task(id)[1]["kwargs"]] for how, id in ids.items()}}, str(everything).count(word), str(everything).count("hidden")])
"#,
        calls(&url)
    ));
    let shown = found[0].as_object().unwrap();
    assert_eq!(shown.len(), 7);
    for (how, shown) in shown {
        assert_eq!(*shown, json!(["<hidden>", "<nothing>"]), "{how}");
    }
    assert_eq!(found[1], 0, "the word stands nowhere");
    assert!(found[2].as_u64().unwrap() > 20, "but what hides it does: {}", found[2]);
}
