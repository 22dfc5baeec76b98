//! Users of the broker who lack a right: it is named, and what can be done without it is done.

use std::time::Duration;

use celeriac::message::Signature;
use compat_tests::{Port, Process, eventually, http_get, secs};

use crate::stage::{REPAIRED, Stage, at_once};

/// How soon a missing right is named.
const NAMED: Duration = secs(20);
const TASKS: usize = 40;

/// A worker whose user lacks something.
struct Limited {
    stage: Stage,
    port: Port,
    worker: Process,
}

impl Limited {
    /// A worker whose user has all rights but these; it may not become ready.
    #[track_caller]
    fn without(rights: &[&str]) -> Self {
        let (mut stage, port) = (Stage::new(), Port::free());
        stage.set("CELERIAC_PROBE_ADDRESS", &format!("127.0.0.1:{}", port.number()));
        stage.set("CELERIAC_MAX_SCHEDULED", "1");
        stage.tell(&["ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all"]);
        stage.tell(&[&["ACL", "SETUSER", "u"], rights].concat());
        let url = stage.redis.url().replace("redis://", "redis://u:p@");
        let worker = Process::spawn("one", &stage.command(&url, "one", 4));
        Self { stage, port, worker }
    }

    /// Waits until log and `/readyz` name something; returns the status.
    #[track_caller]
    fn await_named(&self, name: &str) -> u16 {
        let pattern = format!("refuses something: no right to {name}");
        eventually(&format!("the log names {name}"), NAMED, || !self.worker.lines_with(&pattern).is_empty());
        eventually(&format!("/readyz names {name}"), NAMED, || {
            match http_get(self.port.number(), "/readyz") {
                Ok((status, text)) if status != 0 && text.contains(&format!("no right to {name}")) => {
                    Ok(status)
                }
                answer => Err(format!("{answer:?}")),
            }
        })
    }

    /// Sends tasks, most of them with an eta, and waits until all have run.
    #[track_caller]
    fn work(&self) {
        self.stage.send("faults.late", 0, TASKS, 0.0);
        for number in 0..4 {
            let later =
                Signature::new("faults.late").arg((TASKS + number) as i64).arg(0.0).countdown(secs(1));
            self.stage.runtime.block_on(self.stage.client().apply(later)).unwrap();
        }
        self.stage.await_runs("done", TASKS + 4, REPAIRED);
        self.stage.await_empty();
    }
}

#[test]
fn work_goes_on_without_a_right_that_something_replaces() {
    let comforts = [
        ("-llen", "LLEN"),
        ("-exists", "EXISTS"),
        ("-llen -exists", "LLEN"),
        ("-lmove", "LMOVE"),
        ("-zrange", "ZRANGE"),
        ("-time", "TIME"),
        ("-client|tracking", "CLIENT TRACKING"),
        ("-client|list", "CLIENT LIST"),
        ("-client|kill", "CLIENT KILL"),
        ("-client", "CLIENT SETNAME"),
    ];
    at_once(comforts.into_iter(), |(rights, name)| {
        let limited = Limited::without(&rights.split(' ').collect::<Vec<_>>());
        assert_eq!(limited.await_named(name), 200, "{rights}: it works");
        limited.stage.tell(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        limited.work();
        let lost = limited.worker.lines_with("Connection to broker lost").len();
        assert!(lost <= 2, "{rights}: the connection was lost {lost} times");
        let named = limited.worker.lines_with(&format!("refuses something: no right to {name}:")).len();
        assert_eq!(named, 1, "{rights}: named once");
    });
}

#[test]
fn nothing_is_taken_without_a_right_that_nothing_replaces() {
    let needed = [
        ("-eval", "EVAL"),
        ("-set", "SET"),
        ("-publish", "PUBLISH"),
        ("-zadd", "ZADD"),
        ("-lrange", "LRANGE"),
    ];
    at_once(needed.into_iter(), |(right, name)| {
        let limited = Limited::without(&[right]);
        assert_eq!(limited.await_named(name), 503, "{right}");
        limited.stage.send("faults.early", 0, TASKS, 0.0);
        let told =
            limited.worker.lines_with(&format!("Cannot connect to broker: the user has no right to {name}"));
        assert!(!told.is_empty(), "{right}: the connection says so");
        assert_eq!(limited.stage.ask(&["LLEN", "celery"]), TASKS as i64, "{right}: they stay in their queue");
        limited.stage.tell(&["ACL", "SETUSER", "u", &right.replace('-', "+")]);
        limited.stage.await_runs("done", TASKS, REPAIRED);
        eventually("it is ready", NAMED, || {
            http_get(limited.port.number(), "/readyz").is_ok_and(|(status, _)| status == 200)
        });
    });
}

#[test]
fn a_right_that_is_missing_at_the_result_backend_is_named() {
    let (mut stage, port) = (Stage::new().two_databases(), Port::free());
    stage.set("CELERIAC_PROBE_ADDRESS", &format!("127.0.0.1:{}", port.number()));
    stage.tell(&["ACL", "SETUSER", "r", "on", ">p", "~*", "&*", "+@all", "-incrby"]);
    let backend = stage.redis.url_of_db(1).replace("redis://", "redis://r:p@");
    let mut command = stage.command(&stage.redis.url(), "one", 4);
    command.env("CELERY_RESULT_BACKEND", backend);
    let _worker = stage.spawn(&command, "one");
    eventually("/readyz names it", NAMED, || match http_get(port.number(), "/readyz") {
        Ok((503, text)) if text.contains("no right to INCRBY at the result backend: chords") => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
}

#[test]
fn a_right_without_which_some_work_stays_undone_makes_the_worker_unready() {
    let some = [("-zscore", "ZSCORE"), ("-smembers", "SMEMBERS"), ("-expire", "EXPIRE")];
    at_once(some.into_iter(), |(right, name)| {
        let limited = Limited::without(&[right]);
        assert_eq!(limited.await_named(name), 503, "{right}");
        limited.stage.send("faults.late", 0, TASKS, 0.0);
        limited.stage.await_runs("done", TASKS, REPAIRED);
    });
}
