//! Messages that cannot be run, or kill their workers: kept with reason and bytes, and brought back on demand.

use std::process::Command;

use celeriac::message::Signature;
use compat_tests::{binary, eventually, run, secs};

use crate::stage::{REPAIRED, Stage};

/// `celeriac dead ARGUMENTS`
fn dead(stage: &Stage, arguments: &[&str]) -> String {
    run(&command(stage, arguments), secs(20)).success()
}

fn refused(stage: &Stage, arguments: &[&str]) -> String {
    run(&command(stage, arguments), secs(20)).failure()
}

fn command(stage: &Stage, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("celeriac"));
    command.arg("dead").args(arguments).env("CELERY_BROKER_URL", stage.redis.url());
    command
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The columns of the only dead letter.
fn only(stage: &Stage) -> Vec<String> {
    let list = dead(stage, &["list"]);
    assert_eq!(list.lines().count(), 1, "{list}");
    list.split_whitespace().map(str::to_owned).collect()
}

fn push(stage: &Stage, raw: &[u8]) {
    let _: i64 = redis::cmd("LPUSH").arg("celery").arg(raw).query(&mut stage.redis.connection()).unwrap();
}

#[test]
fn a_message_that_kills_its_worker_each_time_is_given_up() {
    let mut stage = Stage::new();
    stage.set("CELERIAC_MAX_DELIVERIES", "2");
    let poison = Signature::new("faults.poison").arg(1);
    stage.runtime.block_on(stage.client().apply(poison)).unwrap();
    let sent: String =
        redis::cmd("LINDEX").arg("celery").arg(0).query(&mut stage.redis.connection()).unwrap();
    let sent = json(&sent);
    // What a worker only held when it died is not blamed for it.
    let held = Signature::new("faults.late").arg(2).countdown(secs(3600));
    stage.runtime.block_on(stage.client().apply(held)).unwrap();
    for name in ["first", "second"] {
        let mut victim = stage.worker(name, 2);
        victim.wait(REPAIRED);
    }
    let _heir = stage.worker("heir", 2);
    eventually("the poison is a dead letter", REPAIRED, || stage.ask(&["LLEN", "celeriac.dead"]) == 1);
    let columns = only(&stage);
    assert_eq!(columns[2..7], ["deliveries", "3", "celery", "heir@host", "faults.poison"]);
    assert_eq!(stage.runs("started")[&1], 2);
    let shown = json(&dead(&stage, &["show", &columns[0], "--json"]));
    let hosts: Vec<&str> = shown["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|start| start["hostname"].as_str().unwrap())
        .collect();
    assert_eq!(hosts, ["second@host", "heir@host"]);
    let kept = json(shown["message"].as_str().unwrap());
    assert_eq!((&kept["body"], &kept["headers"]["id"]), (&sent["body"], &sent["headers"]["id"]));
    // The rest of the queue goes on.
    stage.send("faults.late", 10, 20, 0.0);
    stage.await_runs("done", 20, REPAIRED);
    dead(&stage, &["drop", &columns[0]]);
    assert_eq!(dead(&stage, &["list"]), "");
}

#[test]
fn without_a_queue_for_them_messages_are_given_up_with_a_reason_in_the_log() {
    let mut stage = Stage::new();
    stage.set("CELERIAC_DEAD_LETTER_QUEUE", "");
    push(&stage, b"no message");
    push(&stage, br#"{"body": "", "headers": {}, "properties": {}}"#);
    stage.runtime.block_on(stage.client().apply(Signature::new("faults.nobody_has_it"))).unwrap();
    let mut worker = stage.worker("w", 2);
    for reason in ["no message", "faults.nobody_has_it"] {
        worker.wait_for_line(reason, REPAIRED);
    }
    stage.send("faults.late", 0, 1, 0.0);
    stage.await_runs("done", 1, REPAIRED);
    eventually("nothing is held", REPAIRED, || stage.ask(&["HLEN", "unacked"]) == 0);
    assert_eq!(stage.ask(&["EXISTS", "celeriac.dead"]), 0);
    let list =
        run(command(&stage, &["list"]).env("CELERY_CELERIAC_DEAD_LETTER_QUEUE", ""), secs(20)).failure();
    assert!(list.contains("celeriac_dead_letter_queue"), "{list}");
}

#[test]
fn dead_letters_are_found_by_task_reason_and_queue_and_brought_back_together() {
    let stage = Stage::new();
    let mut worker = stage.worker("one", 2);
    for (number, task) in ["shop.pay", "shop.ship", "blog.post"].into_iter().enumerate() {
        stage.runtime.block_on(stage.client().apply(Signature::new(task).arg(number as i64))).unwrap();
    }
    push(&stage, b"not a message");
    eventually("all are dead letters", secs(20), || stage.ask(&["LLEN", "celeriac.dead"]) == 4);
    assert!(worker.terminate(secs(20)).success());
    let list = |arguments: &[&str]| {
        let lines = dead(&stage, &[&["list", "--json"], arguments].concat());
        lines.lines().map(|line| json(line)["task"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let name = |task: &str| Some(task.to_owned());
    assert_eq!(list(&["--task", "shop."]), [name("shop.ship"), name("shop.pay")]);
    assert_eq!(list(&["--reason", "malformed"]), [None]);
    assert_eq!(list(&["--queue", "celery", "--reason", "unregistered"]).len(), 3);
    assert_eq!(list(&["--queue", "other"]), []);
    assert_eq!(dead(&stage, &["requeue", "--task", "shop."]), "requeued 2");
    assert_eq!(dead(&stage, &["drop", "--reason", "malformed"]), "dropped 1");
    assert_eq!(list(&[]), [name("blog.post")]);
    assert_eq!(stage.ask(&["LLEN", "celery"]), 2);
    assert!(refused(&stage, &["requeue", "no-such-id"]).contains("no-such-id"));
    assert!(refused(&stage, &["drop"]).contains("--all"));
    assert_eq!(dead(&stage, &["drop", "--all"]), "dropped 1");
}

#[test]
fn an_unreadable_message_that_a_dead_worker_had_is_kept_too() {
    let stage = Stage::new();
    let (worker, raw) = ("0123456789abcdef", "\u{7f}neither JSON nor anything");
    assert_eq!(stage.ask(&["LPUSH", &format!("celeriac.inflight.{worker}.3"), raw]), 1);
    assert_eq!(stage.ask(&["ZADD", "celeriac.inflight", "1", worker]), 1);
    let _worker = stage.worker("heir", 2);
    eventually("it is a dead letter", REPAIRED, || stage.ask(&["LLEN", "celeriac.dead"]) == 1);
    let columns = only(&stage);
    assert_eq!(json(&dead(&stage, &["show", &columns[0], "--json"]))["message"], raw);
    stage.await_empty();
}

#[test]
fn an_unreadable_message_is_kept_byte_by_byte() {
    let stage = Stage::new();
    let mut worker = stage.worker("one", 2);
    for raw in [&b"{\"body\": \"\xff\xfe"[..], b"", b"[1, 2]"] {
        push(&stage, raw);
        eventually("it is a dead letter", secs(20), || stage.ask(&["LLEN", "celeriac.dead"]) == 1);
        let columns = only(&stage);
        assert_eq!(columns[2..6], ["malformed", "1", "celery", "one@host"]);
        worker.signal(compat_tests::Signal::SIGSTOP);
        dead(&stage, &["requeue", &columns[0]]);
        let back: Vec<u8> = redis::cmd("RPOP").arg("celery").query(&mut stage.redis.connection()).unwrap();
        assert_eq!(back, raw);
        worker.signal(compat_tests::Signal::SIGCONT);
    }
    stage.send("faults.late", 1, 1, 0.0);
    stage.await_runs("done", 1, secs(20));
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn a_rejected_message_is_kept_if_that_is_set() {
    let mut stage = Stage::new();
    stage.set("CELERIAC_DEAD_LETTER_REJECTED", "true");
    let _worker = stage.worker("one", 2);
    stage.runtime.block_on(stage.client().apply(Signature::new("faults.reject").arg(1))).unwrap();
    eventually("it is a dead letter", secs(20), || stage.ask(&["LLEN", "celeriac.dead"]) == 1);
    assert_eq!(only(&stage)[2..7], ["rejected", "1", "celery", "one@host", "faults.reject"]);
}

#[test]
fn a_message_of_an_unknown_task_is_kept_and_a_stock_worker_runs_it() {
    let stage = Stage::new();
    let mut worker = stage.worker("one", 2);
    let unknown = Signature::new("faults.stock_only").arg(7);
    let result = stage.runtime.block_on(stage.client().apply(unknown)).unwrap();
    eventually("it is a dead letter", secs(20), || stage.ask(&["LLEN", "celeriac.dead"]) == 1);
    let columns = only(&stage);
    assert_eq!(columns[2..8], ["unregistered", "1", "celery", "one@host", "faults.stock_only", result.id()]);
    let shown = dead(&stage, &["show", &columns[0]]);
    assert!(shown.contains(result.id()), "{shown}");
    assert!(worker.terminate(secs(20)).success());
    let kept = json(&dead(&stage, &["show", result.id(), "--json"]));
    dead(&stage, &["requeue", result.id()]);
    let queued: String =
        redis::cmd("LINDEX").arg("celery").arg(0).query(&mut stage.redis.connection()).unwrap();
    assert_eq!(kept["message"], queued);
    let _stock = stage.stock_worker(1);
    stage.await_runs("done", 1, REPAIRED);
}

/// Writes dead letters into the list, the newest last; each names its number and one of two tasks.
fn fill(stage: &Stage, count: usize, date: &str) {
    let mut fill = redis::pipe();
    for number in 0..count {
        let (id, task) =
            (format!("00000000-0000-4000-8000-{number:012}"), ["shop.pay", "blog.post"][number % 2]);
        let message = format!(
            r#"{{"body": "W1tdLCB7fSwge31d", "content-type": "application/json", "content-encoding": "utf-8", "headers": {{"lang": "py", "task": "{task}", "id": "task-{number}"}}, "properties": {{"delivery_tag": "{number}", "delivery_mode": 2, "priority": 0, "body_encoding": "base64", "delivery_info": {{"exchange": "", "routing_key": "celery"}}}}}}"#
        );
        let message = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, message);
        let letter = format!(
            r#"{{"id":"{id}","reason":"unregistered","list":"celery","hostname":"w@host","deliveries":1,"date":"{date}","history":[],"message":"{message}"}}"#
        );
        fill.lpush("celeriac.dead", letter).ignore();
    }
    fill.exec(&mut stage.redis.connection()).unwrap();
}

#[test]
fn thousands_of_dead_letters_are_requeued_and_dropped_in_one_pass_and_the_others_keep_their_order() {
    const COUNT: usize = 2000;
    let stage = Stage::new();
    fill(&stage, COUNT, "2026-11-30T12:00:00+00:00");
    let size = stage.ask(&["MEMORY", "USAGE", "celeriac.dead", "SAMPLES", "0"]);
    let sent = || stage.figure("total_net_output_bytes");
    let before = sent();
    assert_eq!(dead(&stage, &["requeue", "--task", "shop."]), format!("requeued {}", COUNT / 2));
    // It reads the list once to choose and once to deal with it.
    assert!(sent() - before < 4 * size, "{} bytes were sent of a list of {size}", sent() - before);
    let ids = |list: &str, from: &str| -> Vec<String> {
        let all: Vec<String> =
            redis::cmd("LRANGE").arg(list).arg(0).arg(-1).query(&mut stage.redis.connection()).unwrap();
        all.iter()
            .map(|item| item.split(from).nth(1).unwrap().split('"').next().unwrap().to_owned())
            .collect()
    };
    let newest_first = |odd: usize| (0..COUNT).rev().filter(move |number| number % 2 == odd);
    let paid: Vec<String> = newest_first(0).map(|number| format!("task-{number}")).collect();
    assert_eq!(ids("celery", r#""id": ""#), paid, "the oldest is delivered first");
    let posts: Vec<String> =
        newest_first(1).map(|number| format!("00000000-0000-4000-8000-{number:012}")).collect();
    assert_eq!(ids("celeriac.dead", r#""id":""#), posts, "the others keep their order");
    let one = &posts[10];
    assert_eq!(dead(&stage, &["drop", one, "task-3"]), "dropped 2");
    assert_eq!(stage.ask(&["LLEN", "celeriac.dead"]), COUNT as i64 / 2 - 2);
    assert_eq!(dead(&stage, &["drop", "--all"]), format!("dropped {}", COUNT / 2 - 2));
    assert_eq!(stage.ask(&["EXISTS", "celeriac.dead"]), 0);
}

#[test]
fn dead_letters_are_bounded_in_number_size_and_age() {
    let mut stage = Stage::new();
    stage.set("CELERIAC_DEAD_LETTER_MAX_COUNT", "20");
    stage.set("CELERIAC_DEAD_LETTER_MAX_BYTES", "100000");
    fill(&stage, 5, "2001-01-01T00:00:00+00:00");
    let mut worker = stage.worker("one", 2);
    eventually("old ones are dropped, but for the last", secs(30), || {
        stage.ask(&["LLEN", "celeriac.dead"]) == 1
    });
    worker.wait_for_line("were given up", secs(30));
    let send = |first: usize, count: usize, payload: usize| {
        for number in first..first + count {
            let task = Signature::new("no.such.task")
                .arg("x".repeat(payload))
                .option("task_id", format!("typo-{number}"));
            stage.runtime.block_on(stage.client().apply(task)).unwrap();
        }
        let last = format!("typo-{}", first + count - 1);
        eventually("the last one is a dead letter", secs(30), || dead(&stage, &["list"]).contains(&last));
    };
    send(0, 60, 1);
    let list = dead(&stage, &["list"]);
    let kept: Vec<bool> = [39, 40, 59]
        .iter()
        .map(|number| {
            list.contains(&format!(" typo-{number}\n")) || list.ends_with(&format!(" typo-{number}"))
        })
        .collect();
    assert_eq!((list.lines().count(), kept), (20, vec![false, true, true]), "{list}");
    worker.wait_for_line("each further one drops the oldest", secs(30));
    send(100, 20, 20_000);
    let bytes = || stage.ask(&["MEMORY", "USAGE", "celeriac.dead", "SAMPLES", "0"]);
    assert!(bytes() <= 100_000 && stage.ask(&["LLEN", "celeriac.dead"]) > 1, "{} bytes", bytes());
    assert!(worker.lines_with("were given up").len() <= 3, "one line for each change of state");
}
