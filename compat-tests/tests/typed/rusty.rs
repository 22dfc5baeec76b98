//! The crate `celery` (rusty-celery): messages with its client and its worker.

use std::path::PathBuf;
use std::process::Command;

use compat_tests::{Process, run, secs, workspace_root};
use serde_json::json;

use crate::stage::Stage;

/// A program of the workspace that is kept apart.
fn program(path: &str) -> PathBuf {
    let target = std::env::var_os("RUSTY_CELERY_TARGET_DIR")
        .map_or_else(|| workspace_root().join("compat-tests/rusty-celery/target"), PathBuf::from);
    let path = target.join("debug").join(path);
    assert!(
        path.exists(),
        "{} is missing; hint: cargo build --bins --manifest-path \
          compat-tests/rusty-celery/Cargo.toml",
        path.display()
    );
    path
}

fn command(stage: &Stage, path: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program(path));
    command.args(arguments).env("BENCH_BROKER_URL", stage.redis.url()).env("RUST_LOG", "info");
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
