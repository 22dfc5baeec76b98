//! One queue, list, entry or right that the server refuses: it is named, nothing vanishes, and nothing else is slower.

use std::time::Duration;

use celeriac::message::Signature;
use compat_tests::{Port, Process, eventually, http_get, secs};

use crate::stage::{REPAIRED, Stage};

/// How soon a refusal is seen.
const SEEN: Duration = secs(20);

/// A stage on which workers consume those queues and answer probes.
fn consuming(queues: &str) -> (Stage, Port) {
    let mut stage = Stage::new();
    let port = Port::free();
    stage.set("CELERIAC_PROBE_ADDRESS", &format!("127.0.0.1:{}", port.number()));
    stage.set("TASK_CREATE_MISSING_QUEUES", "true");
    stage.queues = Some(queues.to_owned());
    (stage, port)
}

#[track_caller]
fn await_ready(port: &Port) {
    eventually("it is ready", SEEN, || match http_get(port.number(), "/readyz") {
        Ok((200, _)) => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
}

/// Waits until the worker says that it is not ready, for that reason.
#[track_caller]
fn await_unready(port: &Port, reason: &str) {
    eventually(reason, SEEN, || match http_get(port.number(), "/readyz") {
        Ok((503, text)) if text.contains(reason) => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
}

#[track_caller]
fn await_metric(port: &Port, line: &str) {
    eventually(line, SEEN, || {
        http_get(port.number(), "/metrics").is_ok_and(|(_, page)| page.lines().any(|found| found == line))
    });
}

/// Sends a task to a queue.
fn send_to(stage: &Stage, queue: &str, number: i64) {
    let task = Signature::new("faults.late").arg(number).arg(0.0).option("queue", queue);
    stage.runtime.block_on(stage.client().apply(task)).unwrap();
}

fn refused(worker: &Process, pattern: &str) -> usize {
    worker.lines_with(&format!("refuses something: {pattern}")).len()
}

#[test]
fn a_queue_of_the_wrong_type_keeps_no_other_from_being_consumed() {
    let (stage, port) = consuming("celery,bad");
    stage.tell(&["SET", "bad", "somebody else's"]);
    let worker = stage.worker("one", 4);
    await_unready(&port, "queue bad cannot be consumed: WRONGTYPE");
    await_metric(&port, r#"celeriac_worker_refused{hostname="one@host",subject="bad",work="fetch"} 1"#);
    stage.send("faults.late", 0, 300, 0.0);
    stage.await_runs("done", 300, secs(30));
    assert!(worker.lines_with("Connection to broker lost").is_empty());
    stage.tell(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    stage.send("faults.late", 300, 1, 0.0);
    stage.await_runs("done", 301, secs(30));
    assert_eq!(refused(&worker, "queue bad"), 1, "named once, also when the connection is made again");

    stage.tell(&["DEL", "bad"]);
    send_to(&stage, "bad", 301);
    stage.await_runs("done", 302, secs(30));
    await_ready(&port);
    assert_eq!(worker.lines_with("refuses no longer: queue bad").len(), 1);
    stage.report("a queue of the wrong type beside a good one", "done", 302);
}

#[test]
fn a_queue_without_rights_keeps_no_other_from_being_consumed() {
    let (stage, port) = consuming("celery,bad");
    let rights = [
        "ACL",
        "SETUSER",
        "u",
        "on",
        ">p",
        "resetkeys",
        "~celery*",
        "~unacked*",
        "~celeriac*",
        "~_kombu*",
        "&*",
        "+@all",
    ];
    stage.tell(&rights);
    let url = stage.redis.url().replace("redis://", "redis://u:p@");
    let worker = stage.worker_at(&url, "one", 4);
    await_unready(&port, "queue bad cannot be consumed: NOPERM");
    stage.send("faults.late", 0, 300, 0.0);
    stage.await_runs("done", 300, secs(30));
    assert_eq!(refused(&worker, "queue bad"), 1);
    assert!(worker.lines_with("Connection to broker lost").is_empty());
    stage.tell(&["ACL", "SETUSER", "u", "~bad*"]);
    send_to(&stage, "bad", 300);
    stage.await_runs("done", 301, secs(30));
    await_ready(&port);
}

#[test]
fn a_bad_queue_leaves_only_its_own_messages_with_a_dead_worker() {
    let (stage, port) = consuming("other");
    for number in 0..20 {
        send_to(&stage, if number % 2 == 0 { "celery" } else { "bad" }, number);
    }
    // As a dead worker leaves them: in an in-flight list, the newest at the left.
    for number in 0..10 {
        let queue = if number % 2 == 0 { "celery" } else { "bad" };
        stage.tell(&["LMOVE", queue, "celeriac.inflight.gone.2", "RIGHT", "LEFT"]);
    }
    stage.tell(&["ZADD", "celeriac.inflight", "1", "gone"]);
    for queue in ["celery", "bad"] {
        record(&stage, queue);
    }
    foreign(&stage, 3);
    let mut redis = stage.redis.connection();
    stage.tell(&["SET", "bad", "somebody else's"]);
    let worker = stage.worker("one", 4);
    await_unready(&port, "10 message(s) of dead workers cannot go back to bad: WRONGTYPE");
    eventually("the good ones are back", REPAIRED, || stage.ask(&["LLEN", "celery"]) == 10);
    assert_eq!(stage.ask(&["LLEN", "celeriac.inflight.gone.2"]), 5, "those of the bad queue stay");
    assert_eq!(stage.ask(&["HLEN", "unacked"]), 5 + 3, "those of the bad queue stay, and what is no message");
    await_metric(&port, r#"celeriac_worker_refused{hostname="one@host",subject="bad",work="restore"} 10"#);
    await_metric(&port, r#"celeriac_worker_refused{hostname="one@host",subject="unacked",work="read"} 3"#);
    let waiting: Vec<String> = redis::cmd("LRANGE").arg("celery").arg(-5).arg(-1).query(&mut redis).unwrap();
    let order: Vec<i64> = waiting.iter().rev().map(|raw| number_of(raw)).collect();
    assert_eq!(order, [0, 2, 4, 6, 8], "the oldest of an in-flight list is delivered first");

    stage.tell(&["DEL", "bad"]);
    eventually("the others are back, too", REPAIRED, || stage.ask(&["LLEN", "bad"]) == 10);
    await_ready(&port);
    assert_eq!((refused(&worker, "10 message"), refused(&worker, "3 value")), (1, 1), "each is named once");
    assert_eq!(stage.ask(&["ZCARD", "celeriac.inflight"]), 1, "the dead worker is forgotten");
}

#[test]
fn ten_thousand_entries_that_are_no_messages_hide_none() {
    let (stage, port) = consuming("celery");
    foreign(&stage, 10_050);
    send_to(&stage, "celery", 7);
    record(&stage, "celery");
    let worker = stage.worker("one", 4);
    stage.await_runs("done", 1, REPAIRED);
    await_metric(
        &port,
        r#"celeriac_worker_refused{hostname="one@host",subject="unacked",work="read"} 10050"#,
    );
    let swept = || stage.ask(&["EXISTS", "unacked_mutex"]) == 1;
    for _ in 0..2 {
        eventually("a sweep begins", secs(30), swept);
        eventually("a sweep ends", secs(30), || !swept());
    }
    assert_eq!(refused(&worker, "10050 value"), 1, "named once, not at each sweep");
    assert_eq!(stage.ask(&["HLEN", "unacked"]), 10_050);
    await_ready(&port);
}

#[test]
fn a_message_whose_fetch_was_not_answered_goes_back_to_its_own_queue() {
    let (mut stage, port) = consuming("first,second");
    stage.set("CELERIAC_MAX_SCHEDULED", "100");
    let mut worker = stage.worker("one", 4);
    await_ready(&port);
    let later = |queue: &str| {
        Signature::new("faults.late").arg(1).arg(0.0).countdown(secs(3600)).option("queue", queue)
    };
    stage.runtime.block_on(stage.client().apply(later("aside"))).unwrap();
    let mut redis = stage.redis.connection();
    // A message that says by which exchange it came, and one that came without: both were fetched from `second`.
    let raw: String = redis::cmd("LINDEX").arg("aside").arg(0).query(&mut redis).unwrap();
    let mut message: serde_json::Value = serde_json::from_str(&raw).unwrap();
    let name: Vec<String> =
        redis::cmd("ZRANGE").arg("celeriac.inflight").arg(0).arg(0).query(&mut redis).unwrap();
    let slot = format!("celeriac.inflight.{}.15", name[0]);
    for (exchange, routing_key, tag) in [("second", "second", "one"), ("", "second", "two")] {
        message["properties"]["delivery_info"] =
            serde_json::json!({"exchange": exchange, "routing_key": routing_key});
        message["properties"]["delivery_tag"] = tag.into();
        stage.tell(&["LPUSH", &slot, &message.to_string()]);
    }
    stage.tell(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    eventually("it has taken them", REPAIRED, || stage.ask(&["HLEN", "unacked"]) == 2);
    assert!(worker.terminate(secs(30)).success());
    assert_eq!((stage.ask(&["LLEN", "first"]), stage.ask(&["LLEN", "second"])), (0, 2));
}

/// Records everything in a queue as held by a worker that died long ago.
fn record(stage: &Stage, queue: &str) {
    let mut redis = stage.redis.connection();
    let waiting: Vec<String> = redis::cmd("LRANGE").arg(queue).arg(0).arg(-1).query(&mut redis).unwrap();
    for (number, raw) in waiting.iter().enumerate() {
        let tag = format!("{queue}-{number}");
        stage.tell(&["HSET", "unacked", &tag, &format!("[{raw}, \"\", \"{queue}\"]")]);
        stage.tell(&["ZADD", "unacked_index", "1000", &tag]);
    }
    stage.tell(&["DEL", queue]);
}

/// Puts values that are no messages at the head of `unacked`.
fn foreign(stage: &Stage, count: usize) {
    let mut write = redis::pipe();
    for number in 0..count {
        let tag = format!("foreign-{number}");
        write.cmd("HSET").arg("unacked").arg(&tag).arg("{}").ignore();
        write.cmd("ZADD").arg("unacked_index").arg(1).arg(&tag).ignore();
    }
    let () = write.query(&mut stage.redis.connection()).unwrap();
}

/// The first argument of the task in a message.
fn number_of(raw: &str) -> i64 {
    let message: serde_json::Value = serde_json::from_str(raw).unwrap();
    let arguments = message["headers"]["argsrepr"].as_str().unwrap();
    arguments.trim_start_matches(['(', '[']).split(',').next().unwrap().parse().unwrap()
}
