//! What the server refuses is named, and costs only what it concerns.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use celeriac::backend::{ExceptionInfo, TaskState};
use celeriac::canvas::{chain, chord};
use celeriac::message::{Map, Signature};
use celeriac::{AsyncResult, Error, Value};
use compat_tests::{Fault, Interceptor, Port, RedisServer, Rule, Signal, eventually, secs};

use crate::stage::{Layout, REPAIRED, Stage, at_once};

/// More than a server takes that was started with [`small`].
const LARGE: i64 = 2_000_000;

fn small() -> Stage {
    Stage::on(RedisServer::options().argument("--proto-max-bulk-len", "1mb"))
}

fn late(number: i64, seconds: f64) -> Signature {
    Signature::new("faults.late").arg(number).arg(seconds)
}

fn large(number: i64) -> Signature {
    Signature::new("faults.large").arg(number).arg(LARGE)
}

fn step(number: i64) -> Signature {
    Signature::new("faults.step").arg(number)
}

impl Stage {
    fn apply(&self, signature: impl Into<Signature>) -> AsyncResult {
        self.runtime.block_on(self.client().apply(signature.into())).unwrap()
    }

    /// Sends that many ordinary tasks, and waits until all have succeeded.
    #[track_caller]
    fn others_go_on(&self, count: i64) {
        let sent: Vec<AsyncResult> =
            (0..count).map(|number| self.apply(late(10_000 + number, 0.0))).collect();
        for (number, result) in (10_000..).zip(&sent) {
            assert_eq!(self.runtime.block_on(result.get_as::<i64>(REPAIRED)).unwrap(), number);
        }
    }

    /// The exception with which a task has failed.
    #[track_caller]
    fn failure(&self, result: &AsyncResult) -> ExceptionInfo {
        match self.runtime.block_on(result.get(REPAIRED)) {
            Err(Error::Task { state: TaskState::Failure, exception, .. }) => *exception,
            other => panic!("{}: {other:?}; the broker holds {}", result.id(), self.held()),
        }
    }
}

/// What a probe's page says.
fn page(port: u16, path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut probe) = TcpStream::connect(("127.0.0.1", port)) {
        let _ = write!(probe, "GET {path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n");
        let _ = probe.read_to_string(&mut answer);
    }
    answer
}

#[test]
fn a_result_that_the_server_does_not_take_fails_its_task_alone() {
    at_once(Layout::ALL.into_iter(), |layout| {
        let stage = small().with(layout);
        let mut worker = stage.worker("one", 4);
        let alone = stage.apply(large(1));
        let errback = Signature::new("faults.step").immutable(true).arg(77);
        let told = stage.apply(large(2).link_error(errback));
        let whole = stage.apply(chord([large(3), large(4)], Signature::new("faults.sum")));
        stage.others_go_on(100);
        for result in [&alone, &told] {
            let exception = stage.failure(result);
            assert_eq!(exception.exc_type, "EncodeError", "{exception:?}");
            let text = exception.repr();
            assert!(text.contains("1048576") && text.contains("proto-max-bulk-len"), "{text}");
        }
        let exception = stage.failure(&whole);
        assert_eq!(exception.exc_type, "ChordError", "{exception:?}");
        assert!(exception.repr().contains("EncodeError"), "{exception:?}");
        eventually("the errback has run", REPAIRED, || stage.runs("steps").contains_key(&77));
        stage.await_empty();
        assert_eq!(stage.runs("done").len(), 104);
        assert!(stage.runs("done").values().all(|runs| *runs == 1), "nothing runs again");
        assert!(worker.terminate(secs(20)).success());
    });
}

#[test]
fn a_message_that_the_server_does_not_take_fails_the_task_that_sends_it() {
    let stage = small();
    let _worker = stage.worker("one", 4);
    // The result of 700 kB fits; the message to the next task, in which it stands in base64, does not.
    let first = Signature::new("faults.large").arg(1).arg(900_000);
    let result = stage.apply(chain([first, Signature::new("faults.step")]));
    stage.others_go_on(20);
    let exception = stage.failure(&result);
    assert_eq!(exception.exc_type, "EncodeError", "{exception:?}");
    assert!(exception.repr().contains("LPUSH"), "{exception:?}");
    stage.await_empty();
}

#[test]
fn a_result_beyond_the_setting_fails_its_task_before_it_is_sent() {
    let mut stage = Stage::new();
    stage.set("CELERIAC_MAX_RESULT_BYTES", "1000000");
    let mut worker = stage.worker("one", 4);
    let result = stage.apply(large(1));
    let exception = stage.failure(&result);
    assert_eq!(exception.exc_type, "EncodeError");
    let text = exception.repr();
    assert!(text.contains("celeriac_max_result_bytes") && text.contains("1000000"), "{text}");
    let fits = stage.apply(Signature::new("faults.large").arg(2).arg(900_000));
    assert_eq!(stage.runtime.block_on(fits.get_as::<String>(REPAIRED)).unwrap().len(), 900_000);
    assert_eq!(worker.lines_with("Connection to broker lost").len(), 0);
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn a_queue_without_the_right_fails_what_leads_there_and_is_named() {
    at_once(Layout::ALL.into_iter(), |layout| {
        let mut stage = Stage::new().with(layout);
        let probe = Port::free();
        stage.set("TASK_CREATE_MISSING_QUEUES", "true");
        stage.set("CELERIAC_PROBE_ADDRESS", &format!("127.0.0.1:{}", probe.number()));
        let keys = ["~celery*", "~unacked*", "~_kombu*", "~celeriac*", "~/*"];
        stage.tell(&[&["ACL", "SETUSER", "limited", "on", ">word", "+@all", "&*"], &keys[..]].concat());
        let url = format!("redis://limited:word@127.0.0.1:{}/0", stage.redis.port());
        let mut worker = stage.worker_at(&url, "one", 4);
        let begun = Instant::now();
        let result = stage.apply(chain([step(1), step(2).immutable(true).option("queue", "forbidden")]));
        let body = Signature::new("faults.sum").option("queue", "forbidden");
        let whole = stage.apply(chord([late(1, 0.0), late(2, 0.0)], body));
        worker.wait_for_line("NOPERM", secs(30));
        eventually("the page names it", secs(30), || {
            let said = page(probe.number(), "/readyz");
            if said.contains("NOPERM") && said.contains("forbidden") { Ok(()) } else { Err(said) }
        });
        stage.others_go_on(100);
        let exception = stage.failure(&result);
        assert_eq!(exception.exc_type, "OperationalError", "{exception:?}");
        assert!(exception.repr().contains("NOPERM"), "{exception:?}");
        let exception = stage.failure(&whole);
        assert_eq!(exception.exc_type, "ChordError", "{exception:?}");
        assert!(exception.repr().contains("LPUSH forbidden"), "{exception:?}");
        println!("named and failed after {:?}", begun.elapsed());
        stage.await_empty();
        assert!(worker.terminate(secs(20)).success());
    });
}

#[test]
fn a_key_of_another_type_fails_the_chain_and_the_chord_that_lead_there() {
    let mut stage = Stage::new();
    stage.set("TASK_CREATE_MISSING_QUEUES", "true");
    stage.tell(&["SET", "refusing", "no list"]);
    let mut worker = stage.worker("one", 4);
    let steps = stage.apply(chain([step(1), step(2).immutable(true).option("queue", "refusing")]));
    let body = Signature::new("faults.sum").option("queue", "refusing");
    let whole = stage.apply(chord([late(1, 0.0), late(2, 0.0)], body));
    stage.others_go_on(50);
    for result in [&steps, &whole] {
        let text = stage.failure(result).repr();
        assert!(text.contains("WRONGTYPE") && text.contains("LPUSH refusing"), "{text}");
    }
    assert_eq!(stage.failure(&whole).exc_type, "ChordError");
    stage.await_empty();
    let named = worker.lines_with("WRONGTYPE");
    let says = |word: &str| named.iter().any(|line| line.contains(word));
    assert!(says("key=refusing") && says("task_id=") && says("queue=celery"), "{named:#?}");
    assert!(worker.terminate(secs(20)).success());
}

/// A worker whose user may push to no other queue than `celery`.
fn limited() -> (Stage, String) {
    let mut stage = Stage::new();
    stage.set("TASK_CREATE_MISSING_QUEUES", "true");
    let keys = ["~celery*", "~unacked*", "~_kombu*", "~celeriac*", "~/*"];
    stage.tell(&[&["ACL", "SETUSER", "limited", "on", ">word", "+@all", "&*"], &keys[..]].concat());
    let url = format!("redis://limited:word@127.0.0.1:{}/0", stage.redis.port());
    (stage, url)
}

#[test]
fn a_chord_fails_whatever_the_server_refuses_of_its_end() {
    let failing = || Signature::new("faults.fail").arg(1);
    // The errback's queue is forbidden: its message is kept.
    let (stage, url) = limited();
    let _worker = stage.worker_at(&url, "one", 4);
    let errback = step(77).immutable(true).option("queue", "forbidden");
    let inner = chord([failing(), late(1, 0.0)], Signature::new("faults.sum").link_error(errback));
    let whole = stage.apply(chord([inner, late(2, 0.0)], Signature::new("faults.sum")));
    assert_eq!(stage.failure(&whole).exc_type, "ChordError");
    eventually("the errback is among the dead letters", REPAIRED, || {
        stage.ask(&["LLEN", "celeriac.dead"]) == 1
    });
    stage.await_empty();

    // The record of the inner body cannot be stored: the outer one fails all the same.
    let stage = Stage::new();
    let path = Interceptor::to(stage.redis.port());
    let _worker = stage.worker_at(&format!("redis://127.0.0.1:{}/0", path.port()), "one", 4);
    let text = "NOPERM this user has no permissions to access one of the keys".to_owned();
    let argument = Some("celery-task-meta-unstorable".to_owned());
    path.inject(Rule { command: "EVAL".to_owned(), argument, times: None, fault: Fault::Error(text) });
    let body = Signature::new("faults.sum").task_id("unstorable");
    let inner = chord([failing(), late(1, 0.0)], body);
    let whole = stage.apply(chord([inner, late(2, 0.0)], Signature::new("faults.sum")));
    assert_eq!(stage.failure(&whole).exc_type, "ChordError");
    stage.await_empty();
}

#[test]
fn what_follows_a_deduplicated_task_fails_if_the_server_refuses_it() {
    let (mut stage, url) = limited();
    stage.set("WORKER_DEDUPLICATE_SUCCESSFUL_TASKS", "true");
    let _worker = stage.worker_at(&url, "one", 4);
    let record =
        r#"{"status": "SUCCESS", "result": 1, "traceback": null, "children": [], "task_id": "again"}"#;
    stage.tell(&["SET", "celery-task-meta-again", record]);
    let redelivered: Map = [("redelivered".to_owned(), Value::Bool(true))].into_iter().collect();
    let first = late(1, 0.0).task_id("again").option("headers", redelivered);
    let result = stage.apply(chain([first, step(2).immutable(true).option("queue", "forbidden")]));
    assert!(stage.failure(&result).repr().contains("NOPERM"));
    stage.await_empty();
    assert_eq!(stage.runs("started").len(), 0, "it is not run again");
}

/// The server carries a transaction out without the command that it refuses.
#[test]
fn a_step_that_is_refused_within_a_transaction_is_not_lost_with_its_worker() {
    let mut stage = Stage::new();
    stage.set("TASK_CREATE_MISSING_QUEUES", "true");
    stage.tell(&["SET", "refusing", "no list"]);
    let mut victim = stage.victim("consume.committed@2=kill", 4);
    let steps = stage.apply(chain([step(1), step(2).immutable(true).option("queue", "refusing")]));
    victim.wait(secs(60));
    let _heir = stage.worker("heir", 4);
    let text = stage.failure(&steps).repr();
    assert!(text.contains("WRONGTYPE") && text.contains("LPUSH refusing"), "{text}");
    stage.await_empty();
}

#[test]
fn messages_that_cannot_go_back_to_their_queue_stay_where_they_come_back_from() {
    let mut stage = Stage::new();
    stage.set("TASK_CREATE_MISSING_QUEUES", "true");
    let mut command = stage.command(&stage.redis.url(), "one", 1);
    command.args(["-Q", "bad"]);
    let mut worker = stage.spawn(&command, "one");
    for number in 0..4 {
        stage.apply(late(number, 2.0).option("queue", "bad"));
    }
    stage.await_runs("started", 1, secs(20));
    eventually("the others are held", secs(20), || stage.ask(&["LLEN", "bad"]) == 0);
    stage.tell(&["SET", "bad", "no list"]);
    assert!(worker.terminate(secs(30)).success());
    let named = worker.lines_with("cannot leave queue bad");
    assert_eq!(named.len(), 3, "{named:#?}");
    assert_eq!((stage.ask(&["HLEN", "unacked"]), stage.ask(&["ZCARD", "unacked_index"])), (3, 3));
    stage.tell(&["DEL", "bad"]);
    let _heir = stage.spawn(&command, "heir");
    stage.await_runs("done", 4, REPAIRED);
    stage.await_empty();
}

#[test]
fn a_refusal_that_passes_delays_only_what_it_concerns() {
    let mut stage = Stage::new();
    stage.set("TASK_CREATE_MISSING_QUEUES", "true");
    let path = Interceptor::to(stage.redis.port());
    let mut command = stage.command(&format!("redis://127.0.0.1:{}/0", path.port()), "one", 4);
    command.args(["-Q", "celery,slow"]);
    let mut worker = stage.spawn(&command, "one");
    path.inject(Rule {
        command: "LPUSH".to_owned(),
        argument: Some("\"routing_key\": \"slow\"".to_owned()),
        times: None,
        fault: Fault::Error("TRYAGAIN Multiple keys request during rehashing of slot".to_owned()),
    });
    let result = stage.apply(chain([step(1), step(2).immutable(true).option("queue", "slow")]));
    eventually("it is refused again and again", secs(30), || path.hits() >= 3);
    stage.others_go_on(50);
    assert_eq!(stage.runtime.block_on(result.state()).unwrap(), TaskState::Pending);
    path.clear();
    assert_eq!(stage.runtime.block_on(result.get_as::<i64>(REPAIRED)).unwrap(), 3);
    stage.await_empty();
    assert!(stage.runs("steps").values().all(|runs| *runs == 1), "{:?}", stage.runs("steps"));
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn a_worker_ends_in_time_whatever_its_servers_do() {
    let cases = ["killed", "frozen"].into_iter().flat_map(|how| {
        [Layout::TwoDatabases, Layout::TwoServers]
            .into_iter()
            .flat_map(move |layout| [0, 6].map(|grace| (how, grace, layout)))
    });
    at_once(cases, |(how, grace, layout)| {
        let mut stage = Stage::new().with(layout);
        stage.set("CELERIAC_SHUTDOWN_GRACE", &grace.to_string());
        let mut worker = stage.worker("leaving", 4);
        for number in 0..8 {
            stage.apply(late(number, 1.0));
            stage.apply(Signature::new("faults.early").arg(100 + number).arg(1.0));
        }
        stage.await_runs("started", 4, secs(20));
        let is_frozen = how == "frozen";
        if is_frozen {
            stage.redis.pause();
        } else {
            stage.redis.kill();
        }
        eventually("what runs is done", secs(20), || stage.runs("done").len() >= 4);
        worker.signal(Signal::SIGTERM);
        let begun = Instant::now();
        worker.wait(secs(60));
        println!("{how}, grace {grace}: ended after {:?}", begun.elapsed());
        if is_frozen {
            stage.redis.resume();
        }
    });
}
