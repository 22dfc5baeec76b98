//! The program `celeriac` beside `celery`: the same options, output and exit codes.

use std::process::Command;

use compat_tests::{Finished, Process, binary, run, secs};
use serde_json::{Value as Json, json};

use crate::stage::{SOON, Stage, shape};

fn celeriac(stage: &Stage, arguments: &[&str]) -> Finished {
    let mut command = Command::new(binary("celeriac"));
    command
        .args(arguments)
        .env("CELERY_BROKER_URL", stage.redis.url())
        .env("CELERY_RESULT_BACKEND", stage.redis.url());
    run(&command, secs(30))
}

fn json_of(finished: &Finished) -> Json {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished}"))
}

#[test]
fn it_prints_what_celery_prints() {
    let stage = Stage::new();
    let _python = stage.python_worker("-n py@host -c 1 -E");
    stage.script("ask('revoke', ['py@host'], task_id='a')\nshow(0)");
    // What changes something comes first, so that both see the same afterwards.
    let lines = [
        "control rate_limit tools.add 10/m",
        "control rate_limit nope 1/s",
        "control rate_limit tools.add abc",
        "control time_limit tools.add 10 20",
        "control enable_events",
        "control pool_grow 1 -j",
        "control revoke a -j",
        "control heartbeat",
        "control terminate TERM a -j",
        "control revoke_by_stamped_headers tenant=acme -j",
        "control pool_grow 1 2",
        "inspect ping",
        "inspect revoked",
        "inspect registered",
        "inspect registered rate_limit max_retries",
        "inspect active",
        "inspect active_queues",
        "inspect query_task nope",
        "inspect conf -j",
        "inspect ping -j",
        "inspect active_queues -j",
        "status",
        "status -j",
        "inspect ping -d nobody@host -t 0.2",
        "control shutdown -d nobody@host -t 0.2",
        "purge -f -Q some,other",
        "inspect nonsense -t 0.2 -d nobody@host",
    ];
    let theirs = stage.script(&format!(
        r#"
def run(line):
    # Without colors, which Pygments, where it happens to be installed, gives with a newline of its own.
    result = CliRunner().invoke(command_line, ["-A", "tools_app", "--no-color", *line.split()])
    return [result.exit_code, result.stdout]
show([run(line) for line in {}])
"#,
        json!(lines)
    ));
    for (line, theirs) in lines.into_iter().zip(theirs.as_array().unwrap()) {
        let words: Vec<&str> = line.split(' ').collect();
        let ours = celeriac(&stage, &words);
        let (status, output) = (ours.status.code(), theirs[1].as_str().unwrap());
        assert_eq!(json!(status), theirs[0], "{line}: ours {ours}\ntheirs {theirs}");
        match words.contains(&"-j") && line != "status -j" {
            true => {
                assert_eq!(shape(&json_of(&ours)), shape(&serde_json::from_str(output).unwrap()), "{line}")
            }
            false => assert_eq!(ours.stdout, output, "{line}"),
        }
    }
    // Nothing replied, and why.
    let nobody = celeriac(&stage, &["inspect", "ping", "-d", "nobody@host", "-t", "0.2"]);
    assert!(nobody.stderr.contains("Error: No nodes replied within time constraint"), "{nobody}");
    let listed = celeriac(&stage, &["control", "--list"]).success();
    assert!(listed.contains("rate_limit <task_name> <rate_limit"), "{listed}");
}

#[test]
fn it_calls_tasks_waits_for_results_and_empties_queues() {
    let stage = Stage::new();
    let worker = stage.rust_worker("-n rs@host -c 1");
    let id = celeriac(&stage, &["call", "tools.add", "-a", "[1]", "-k", r#"{"y": 2}"#]).success();
    assert_eq!(celeriac(&stage, &["result", &id]).success(), "3");
    assert_eq!(stage.celery(&format!("result {id}")).run().success(), "3");
    let failed = celeriac(&stage, &["call", "tools.fail", "-a", r#"["boom"]"#]).success();
    let said = celeriac(&stage, &["result", &failed]);
    assert_eq!(said.status.code(), Some(1));
    assert!(said.stderr.contains("ValueError('boom')"), "{said}");
    assert!(celeriac(&stage, &["result", &failed, "--traceback"]).success().contains("ValueError: boom"));

    for options in
        [&["--queue", "extra"][..], &["--queue", "extra", "--countdown", "60", "--expires", "3600"]]
    {
        celeriac(&stage, &[&["call", "tools.add", "-a", "[1, 2]"], options].concat()).success();
    }
    let refused = celeriac(&stage, &["purge", "-Q", "extra"]);
    assert_eq!(refused.status.code(), Some(1), "nobody said yes: {refused}");
    let purged = celeriac(&stage, &["purge", "-f", "-Q", "extra,celery", "-X", "celery"]).success();
    assert_eq!(purged, "Purged 2 messages from 1 known task queue.");
    // A command of the worker's own.
    let greeted = celeriac(&stage, &["inspect", "--custom", "greet", "name=you all", "-j"]);
    assert_eq!(json_of(&greeted), json!({"rs@host": "hello you all"}));
    drop(worker);
}

#[test]
fn what_is_not_valid_is_refused_with_a_hint_before_anything_is_sent() {
    let mut stage = Stage::new();
    stage.redis.kill();
    for (line, parts) in [
        ("call tools.add --eta tomorrow", ["--eta", "tomorrow", "ISO 8601"]),
        ("call tools.add --eta=2026-13-40", ["--eta", "2026-13-40", "ISO 8601"]),
        ("call tools.add --expires soon", ["--expires", "soon", "ISO 8601"]),
        ("call tools.add --expires nan", ["--expires", "nan", "seconds"]),
        ("call tools.add --countdown inf", ["--countdown", "inf", "seconds"]),
        ("call tools.add --serializer pickle", ["--serializer", "pickle", "msgpack"]),
        ("call tools.add --serializer auth", ["--serializer", "no serializer auth", "hint"]),
        ("call tools.add -a {}", ["--args", "{}", "JSON array"]),
        ("call tools.add -a [", ["--args", "[", ""]),
        ("call tools.add -k [1]", ["--kwargs", "[1]", "JSON object"]),
        ("inspect pong", ["unknown command 'pong'", "ping", "--custom"]),
        ("control revok a", ["unknown command 'revok'", "revoke", "--custom"]),
        ("inspect --custom greet name", ["NAME=VALUE", "name", ""]),
        ("control pool_grow x", ["n is to be", "whole number", "x"]),
        ("control time_limit tools.add nan", ["soft", "a number", "nan"]),
        ("control rate_limit tools.add", ["rate_limit", "<task_name>", ""]),
        ("control add_consumer", ["add_consumer", "<queue>", ""]),
        ("inspect ping --timeout nan", ["--timeout", "nan", "seconds"]),
        ("inspect ping --timeout=1e19", ["--timeout", "1e19", "seconds"]),
        ("status --timeout=-1", ["--timeout", "-1", "seconds"]),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let said = celeriac(&stage, &words);
        assert_eq!(said.status.code(), Some(2), "{line}: {said}");
        assert!(parts.iter().all(|part| said.stderr.contains(part)), "{line}: {said}");
    }
}

/// Runs a line with its standard output at that place.
fn celeriac_to(stage: &Stage, line: &str, output: &str) -> Finished {
    let program = binary("celeriac");
    let mut command = Command::new("sh");
    // The reader of the pipe ends before anything is written, as `head` does in the end.
    let script = match output {
        "|" => format!("{{ sleep 0.5; {} {line}; echo $? >&2; }} | true", program.display()),
        file => format!("{} {line} > {file}; echo $? >&2", program.display()),
    };
    command.arg("-c").arg(script).env("CELERY_BROKER_URL", stage.redis.url());
    run(command.env("CELERY_RESULT_BACKEND", stage.redis.url()), secs(60))
}

#[test]
fn a_closed_pipe_ends_it_quietly_and_a_full_disk_with_a_sentence() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -c 1");
    for line in
        ["inspect ping", "inspect --list", "control --list", "status -j", "schema", "call tools.add -a [1,2]"]
    {
        let said = celeriac_to(&stage, line, "|");
        assert_eq!(said.stderr.trim(), "0", "{line}: {said}");
        let said = celeriac_to(&stage, line, "/dev/full");
        let (sentence, status) = said.stderr.trim().rsplit_once('\n').expect("an error and a status");
        assert_eq!(status, "1", "{line}: {said}");
        assert!(sentence.contains("the output cannot be written: No space left"), "{line}: {said}");
    }
}

#[test]
fn without_a_broker_it_says_so_with_status_69() {
    let mut stage = Stage::new();
    stage.redis.kill();
    for arguments in [&["status"][..], &["inspect", "ping"], &["control", "shutdown"], &["call", "tools.add"]]
    {
        let said = celeriac(&stage, arguments);
        assert_eq!(said.status.code(), Some(69), "{said}");
        assert!(said.stderr.contains("Could not connect to the message broker"), "{said}");
    }
    let mut command = Command::new(binary("celeriac"));
    command.arg("status").env_remove("CELERY_BROKER_URL");
    let said = run(&command, secs(10));
    assert_eq!(said.status.code(), Some(2));
    assert!(said.stderr.contains("CELERY_BROKER_URL"), "{said}");
}

/// As an exec probe asks a worker.
#[test]
fn a_ping_of_one_node_starts_and_answers_at_once() {
    let stage = Stage::new();
    let mut worker: Process = stage.rust_worker("-n rs@host -c 1");
    let mut times: Vec<std::time::Duration> = (0..20)
        .map(|_| {
            let started = std::time::Instant::now();
            let said = celeriac(&stage, &["inspect", "ping", "-d", "rs@host"]).success();
            assert_eq!(said, "->  rs@host: OK\n        pong\n\n1 node online.");
            started.elapsed()
        })
        .collect();
    times.sort();
    println!("exec to exit of inspect ping: {times:?}");
    // The promise is 50 ms; a loaded machine gets ten times that for half of them.
    assert!(times[times.len() / 2] < std::time::Duration::from_millis(500), "{times:?}");
    worker.terminate(SOON);
}
