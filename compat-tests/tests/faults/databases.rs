//! Results in another database of the broker's server: one transaction holds both, and where the server does not allow that
//! they are committed in steps, without a loss and without a repetition at the change.

use std::time::Duration;

use celeriac::canvas::chord;
use celeriac::message::Signature;
use compat_tests::{Fault, Interceptor, Process, Rule, Signal, eventually, secs};

use crate::mix::{Mix, VICTIM_SLOTS};
use crate::stage::{REPAIRED, Stage, at_once};

/// May go to the database of the results when it connects, and nowhere from there.
const ONE_WAY: [&str; 2] = ["-select", "+select|1"];
/// What the log says where one transaction cannot reach both.
const NAMED: &str = "no right to SELECT";
const TASKS: usize = 1000;

impl Stage {
    /// The URL of the broker for a user with all rights but these.
    fn url_of_user(&self, rights: &[&str]) -> String {
        self.tell(&["ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all"]);
        self.restrict(rights);
        self.redis.url().replace("redis://", "redis://u:p@")
    }

    fn restrict(&self, rights: &[&str]) {
        self.tell(&[&["ACL", "SETUSER", "u"], rights].concat());
    }

    /// How often the server was told a command.
    fn times(&self, command: &str) -> usize {
        let info: String =
            redis::cmd("INFO").arg("commandstats").query(&mut self.redis.connection()).unwrap();
        let prefix = format!("cmdstat_{command}:calls=");
        let line = info.lines().find_map(|line| line.strip_prefix(&*prefix)).unwrap_or("0");
        line.split(',').next().unwrap().parse().unwrap()
    }

    fn worker_of_user(&self, url: &str, fault: &str) -> Process {
        let mut command = self.command(url, "limited", VICTIM_SLOTS);
        command.env("CELERIAC_FAILPOINTS", fault);
        self.spawn(&command, "limited")
    }
}

#[test]
fn results_in_another_database_are_committed_in_the_same_transaction() {
    let stage = Stage::new().two_databases();
    let mix = Mix::send(&stage);
    // A worker that stores a result in a step of its own dies there.
    let mut worker = stage.victim("commit.stored=kill", 8);
    mix.verify(&stage, "two databases of one server", 0);
    let before = (stage.times("select"), stage.times("setex"));
    stage.send("faults.late", 0, TASKS, 0.0);
    stage.await_runs("done", TASKS, REPAIRED);
    stage.await_empty();
    let (selected, stored) = (stage.times("select") - before.0, stage.times("setex") - before.1);
    assert!(stored >= TASKS, "{stored} results");
    assert!(selected < 2 * stored, "{selected} changes of the database for {stored} results");
    assert_eq!(stage.ask(&["DBSIZE"]), stage.ask(&["EXISTS", "celeriac.inflight"]) + worker_keys(&stage));
    assert!(worker.terminate(secs(20)).success());
}

/// How many keys of a living worker there may be in the broker's database, besides its lease: its marker and its bindings.
fn worker_keys(stage: &Stage) -> i64 {
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut stage.redis.connection()).unwrap();
    let own = |key: &&String| key.starts_with("_kombu.binding") || key.ends_with(".committed");
    keys.iter().filter(own).count() as i64
}

#[test]
fn celery_reads_results_of_another_database() {
    let stage = Stage::new().two_databases();
    let mut worker = stage.worker("one", 4);
    let parts = (1..=3).map(|number| Signature::new("faults.late").arg(number).arg(0.0));
    let sum = chord(parts, Signature::new("faults.sum"));
    let result = stage.runtime.block_on(stage.client().apply(sum)).unwrap();
    assert_eq!(stage.runtime.block_on(result.get_as::<i64>(REPAIRED)).unwrap(), 6);
    let mut read = stage.celery("result", &[result.id()]);
    read.wait_for_line("6", secs(60));
    let mut called = stage.celery("call", &["faults.late", "--args", "[7, 0]"]);
    assert!(called.wait(secs(60)).success());
    eventually("what Celery sends is stored there", REPAIRED, || {
        let mut count = redis::cmd("KEYS");
        count.arg("celery-task-meta-*");
        let client = redis::Client::open(stage.redis.url_of_db(1)).unwrap();
        count.query::<Vec<String>>(&mut client.get_connection().unwrap()).unwrap().len() == 5
    });
    assert_eq!(stage.ask_results(&["EXISTS", "celeriac.chords"]), 0);
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn where_a_transaction_may_not_change_the_database_results_are_stored_in_steps() {
    let stage = Stage::new().two_databases();
    let url = stage.url_of_user(&ONE_WAY);
    let mut mix = Mix::send(&stage);
    let mut steps = stage.worker_of_user(&url, "commit.stored@8=kill");
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&steps.wait(REPAIRED)),
        Some(Signal::SIGKILL as i32)
    );
    let mut worker = stage.worker_of_user(&url, "");
    mix.verify(&stage, "no right to SELECT", 1);
    assert_eq!(worker.lines_with(NAMED).len(), 1, "it is named once");
    // With the right it is asked for again at the next connection.
    stage.restrict(&["+select"]);
    stage.tell(&["CLIENT", "KILL", "USER", "u"]);
    worker.wait_for_line("refuses no longer", secs(30));
    stage.forget_runs();
    mix = Mix::send(&stage);
    mix.verify(&stage, "a right to SELECT again", 0);
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn a_right_that_is_taken_away_under_load_loses_and_repeats_nothing() {
    at_once(0..3, |round| {
        let stage = Stage::new().two_databases();
        let url = stage.url_of_user(&[]);
        let mut worker = stage.worker_of_user(&url, "");
        let mix = Mix::send(&stage);
        stage.await_more_runs(5 * (round + 1));
        stage.restrict(&ONE_WAY);
        mix.verify(&stage, "the right to SELECT is taken away", 0);
        stage.send("faults.late", 0, 10, 0.0);
        stage.await_empty();
        assert_eq!(worker.lines_with(NAMED).len(), 1, "it is named once");
        assert!(worker.lines_with("Connection to broker lost").is_empty(), "nothing is wrong with it");
        assert!(worker.terminate(secs(20)).success());
    });
}

#[test]
fn a_right_that_is_taken_away_at_a_full_server_loses_and_repeats_nothing() {
    let stage = Stage::new().two_databases();
    let url = stage.url_of_user(&[]);
    let mix = Mix::send(&stage);
    let mut worker = stage.worker_of_user(&url, "");
    stage.fill();
    // What frees memory goes on, in a script that changes the database; then it may not any more.
    stage.await_more_runs(5);
    stage.restrict(&ONE_WAY);
    worker.wait_for_line(NAMED, REPAIRED);
    stage.set_memory("0");
    mix.verify(&stage, "the right to SELECT is taken away from a full server", 0);
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn a_client_without_the_right_publishes_and_stores_in_steps() {
    let stage = Stage::new().two_databases();
    let url = stage.url_of_user(&[]);
    let mut worker = stage.worker("one", 4);
    let client = stage.client_at(&url);
    // The size of a chord is for the results, its parts for the broker.
    let sum = |first: i64| {
        let parts = (first..first + 3).map(|number| Signature::new("faults.late").arg(number).arg(0.0));
        stage.runtime.block_on(client.apply(chord(parts, Signature::new("faults.sum")))).unwrap()
    };
    let together = sum(1);
    stage.restrict(&ONE_WAY);
    let results = [(together, 6), (sum(11), 36), (sum(21), 66)];
    for (result, expected) in results {
        let value = stage.runtime.block_on(result.get_as::<i64>(REPAIRED));
        assert_eq!(value.unwrap(), expected);
    }
    stage.await_empty();
    assert!(stage.runs("done").values().all(|runs| *runs == 1), "{:?}", stage.runs("done"));
    assert!(worker.terminate(secs(20)).success());
}

/// A proxy that knows one database, or does not like the change.
#[test]
fn a_proxy_that_does_not_let_a_transaction_change_the_database_costs_nothing() {
    let refused = "ERR unknown command 'SELECT'".to_owned();
    let faults = [
        (Fault::Error(refused.clone()), None),
        (Fault::ErrorWhenRun(refused.clone()), None),
        (Fault::Close, None),
        (Fault::CloseAfter, None),
        (Fault::Error(refused.clone()), Some(1)),
        (Fault::ErrorWhenRun(refused), Some(1)),
        (Fault::Close, Some(1)),
        (Fault::CloseAfter, Some(1)),
    ];
    // Back to the broker's database, where it stays, and to that of the results, which one may reach.
    let cases = faults.into_iter().flat_map(|(fault, times)| {
        let databases: &[&str] = if times.is_some() { &["0", "1"] } else { &["0"] };
        databases.iter().flat_map(move |database| {
            let fault = fault.clone();
            [false, true].map(move |is_ready| (fault.clone(), times, *database, is_ready))
        })
    });
    at_once(cases, |(fault, times, database, is_ready)| {
        let stage = Stage::new().two_databases();
        let path = Interceptor::to(stage.redis.port());
        let url = format!("redis://127.0.0.1:{}/0", path.port());
        let rule = Rule { command: "SELECT".to_owned(), argument: Some(database.to_owned()), times, fault };
        let case = format!("{rule:?}, to a worker that {}", if is_ready { "works" } else { "begins" });
        let mut worker = if is_ready {
            let worker = stage.worker_at(&url, "one", 8);
            path.inject(rule);
            worker
        } else {
            path.inject(rule);
            stage.worker_at(&url, "one", 8)
        };
        let mix = Mix::send(&stage);
        // A transaction whose answer was lost is asked for, so that no task runs twice.
        mix.verify(&stage, "SELECT refused or broken on the way", 0);
        println!("{case}: {} hit(s)", path.hits());
        assert!(path.hits() > 0, "{case}");
        assert!(worker.terminate(Duration::from_secs(60)).success(), "{case}");
    });
}
