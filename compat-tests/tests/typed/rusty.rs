//! The crate `celery` (rusty-celery): messages with its client and its worker, and its tasks on celeriac's worker.

use std::path::PathBuf;
use std::process::Command;

use compat_tests::{Process, eventually, run, secs, workspace_root};
use serde_json::json;

use crate::stage::Stage;

/// A program of the workspace that is kept apart.
fn program(path: &str) -> PathBuf {
    let target = std::env::var_os("RUSTY_CELERY_TARGET_DIR")
        .map_or_else(|| workspace_root().join("compat-tests/rusty-celery/target"), PathBuf::from);
    let path = target.join("debug").join(path);
    assert!(
        path.exists(),
        "{} is missing; hint: cargo build --workspace --bins --examples \
         --manifest-path compat-tests/rusty-celery/Cargo.toml",
        path.display()
    );
    path
}

fn command(stage: &Stage, path: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program(path));
    command.args(arguments).env("BENCH_BROKER_URL", stage.redis.url()).env("RUST_LOG", "info");
    command.env("CELERY_BROKER_URL", stage.redis.url()).env("CELERY_RESULT_BACKEND", stage.redis.url());
    command
}

#[test]
fn messages_of_its_client_run_on_our_worker() {
    let stage = Stage::new();
    let mut worker = Process::spawn("bench-worker", &{
        let url = stage.redis.url();
        stage.program(
            "bench-worker",
            &["-l", "info"],
            &[("BENCH_BROKER_URL", &url), ("BENCH_BACKEND_URL", &url)],
        )
    });
    worker.wait_for_line(" ready", secs(30));
    let send =
        |arguments: &[&str]| run(&command(&stage, "rusty-celery-client", arguments), secs(30)).success();
    let ids = [
        send(&["add", "2", "3"]),
        send(&["echo", r#"{"text": "é", "list": [1, 2.5, null]}"#]),
        send(&["noop"]),
        send(&["sleep", "0.01"]),
        send(&["add", "20", "22", "1"]),
    ];
    let found = stage.script(&format!("print(json.dumps([outcome(app.AsyncResult(id)) for id in {ids:?}]))"));
    assert_eq!(found, json!([5, {"text": "é", "list": [1, 2.5, null]}, null, null, 42]));
    assert!(worker.lines_with("Message rejected").is_empty());
}

#[test]
fn messages_of_our_client_run_on_its_worker() {
    let stage = Stage::new();
    let mut worker = Process::spawn("rusty-celery-worker", &command(&stage, "rusty-celery-worker", &[]));
    worker.wait_for_line("Consuming from", secs(30));
    let url = stage.redis.url();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ids: Vec<String> = runtime.block_on(async {
        let mut config = celeriac::config::Config::default();
        config.set("broker_url", &url).expect("a setting");
        let app = celeriac::Celery::new("client", config).expect("an app");
        let positional = app.send_task("bench.add", [20, 22], []).await.expect("sent");
        let none: [i64; 0] = [];
        let by_name =
            app.send_task("bench.add", none, [("x", 1.into()), ("y", 2.into())]).await.expect("sent");
        let text = app.send_task("bench.echo", ["é"], []).await.expect("sent");
        [positional, by_name, text].iter().map(|result| result.id().to_owned()).collect()
    });
    for (id, shown) in ids.iter().zip(["42", "3", "String\\(\"é\"\\)"]) {
        worker.wait_for_line(&format!("\\[{id}\\] succeeded in .*: {shown}$"), secs(30));
    }
}

#[test]
fn its_tasks_run_unchanged_on_our_worker_with_results_retries_and_failures() {
    let stage = Stage::new();
    let arguments = ["-c", "4", "-l", "info", "-n", "rusty@here"];
    let mut worker = Process::spawn("rusty", &command(&stage, "examples/worker", &arguments));
    worker.wait_for_line(" ready", secs(30));
    let found = stage.script(
        r#"
def call(name, /, *args, **kwargs):
    return outcome(app.send_task("rusty." + name, args, kwargs))
bound = app.send_task("rusty.bound")
sender = call("send")
print(json.dumps({
    "add": call("add", 1, 2), "by name": call("add", y=1, x=2), "greet": call("greet", "you"),
    "greeting": call("greet", greeting="hi", name="you"),
    "bound": outcome(bound) == [bound.id, "0", "rusty@here"], "sent": outcome(app.AsyncResult(sender)),
    "flaky": call("flaky"), "again": call("again"), "exhausted": call("exhausted"), "broken": call("broken", "/no/file"),
    "slow": call("slow"), "block": call("block", 0.01), "opaque": call("opaque"),
    "linked": outcome(app.signature("rusty.add", (1, 2)).apply_async(link=app.signature("rusty.add", (4,)))),
    "chain": outcome((app.signature("rusty.add", (1, 2)) | app.signature("rusty.add", (4,))).apply_async()),
    "few": call("add", 1), "many": call("add", 1, 2, 3), "unknown": call("add", 1, 2, z=3), "wrong": call("add", 1, "two"),
    "registered": len(next(iter(app.control.inspect(timeout=10, limit=1).registered().values()))),
}))"#,
    );
    for (name, value) in [
        ("add", json!(3)),
        ("by name", json!(3)),
        ("greet", json!("hello, you")),
        ("greeting", json!("hi, you")),
        ("bound", json!(true)),
        ("sent", json!(42)),
        ("flaky", json!(2)),
        ("again", json!(1)),
        ("exhausted", json!(["celery.exceptions.ExpectedError", "always"])),
        ("slow", json!(["builtins.TimeoutError", "task timed out"])),
        ("block", json!(0.01)),
        ("opaque", json!(null)),
        ("linked", json!(3)),
        ("chain", json!(7)),
        ("registered", json!(11)),
    ] {
        assert_eq!(found[name], value, "{name}: {found}");
    }
    for (name, class, part) in [
        ("broken", "celery.exceptions.UnexpectedError", "cannot read /no/file"),
        ("few", "builtins.TypeError", "missing field `y`"),
        ("many", "builtins.TypeError", "3 were given"),
        ("unknown", "builtins.TypeError", "unexpected keyword argument 'z'"),
        ("wrong", "builtins.TypeError", "add() arguments: "),
    ] {
        assert_eq!(found[name][0], class, "{name}: {found}");
        assert!(found[name][1].as_str().is_some_and(|text| text.contains(part)), "{name}: {found}");
    }
    worker.wait_for_line("rusty.broken was told: task raised unexpected error: cannot read", secs(10));
    eventually("nothing is held", secs(30), || {
        let held: i64 =
            redis::cmd("HLEN").arg("unacked").query(&mut stage.redis.connection()).expect("a length");
        held == 0
    });
}
