//! Errbacks that are called in the worker's process, when that is killed.

use std::os::unix::process::ExitStatusExt;

use celeriac::backend::TaskState;
use celeriac::canvas::chord;
use celeriac::message::Signature;
use compat_tests::{Signal, secs};

use crate::stage::{Layout, REPAIRED, Stage, at_once};

fn errback(number: i64, first_hangs: bool) -> Signature {
    Signature::new("faults.errback").arg(number).arg(first_hangs)
}

fn failing(number: i64, first_hangs: bool) -> Signature {
    Signature::new("faults.fail").arg(number).link_error(errback(number, first_hangs))
}

/// With the results in the broker's database, in another one of its server, and at another server.
fn stages(test: impl Fn(Stage) + Sync) {
    at_once(Layout::ALL.into_iter(), |layout| test(Stage::new().with(layout)));
}

#[test]
fn an_errback_in_the_middle_of_which_its_worker_is_killed_is_called_again() {
    stages(|stage| {
        let client = stage.client();
        let results: Vec<_> = (0..3)
            .map(|number| stage.runtime.block_on(client.apply(failing(number, true))).unwrap())
            .collect();
        let mut victim = stage.worker("victim", 4);
        (0..3).for_each(|number| stage.await_runs(&format!("errback.{number}"), 1, REPAIRED));
        for result in &results {
            assert_eq!(stage.runtime.block_on(result.state()).unwrap(), TaskState::Failure);
        }
        // They hold their slots and no other.
        stage.send("faults.late", 10, 5, 0.0);
        stage.await_runs("done", 5, REPAIRED);
        victim.kill();
        let _heir = stage.worker("heir", 4);
        stage.await_runs("errbacks", 3, REPAIRED);
        stage.await_empty();
        for number in 0..3 {
            assert_eq!(stage.runs(&format!("errback.{number}"))[&number], 2, "one death, one call more");
        }
        assert!(stage.runs("errbacks").values().all(|calls| *calls == 1));
        stage.report("kill -9 in the middle of errbacks", "errbacks", 3);
    });
}

#[test]
fn a_worker_killed_before_or_after_it_calls_an_errback_does_not_lose_it() {
    for point in ["errbacks.stored", "errbacks.called"] {
        stages(|stage| {
            stage.runtime.block_on(stage.client().apply(failing(1, false))).unwrap();
            let mut victim = stage.victim(&format!("{point}=kill"), 2);
            assert_eq!(victim.wait(REPAIRED).signal(), Some(Signal::SIGKILL as i32));
            let _heir = stage.worker("heir", 2);
            // Of the call that was made before the kill there is no other trace than the record.
            let calls = if point == "errbacks.called" { 2 } else { 1 };
            stage.await_empty();
            assert_eq!(stage.runs("errbacks"), [(1, calls)].into(), "{point}");
            stage.report(&format!("kill -9 at {point}"), "errbacks", 1);
        });
    }
}

#[test]
fn an_errback_of_a_chord_in_the_middle_of_which_its_worker_is_killed_is_called_again() {
    stages(|stage| {
        let header = [Signature::new("faults.fail").arg(1), Signature::new("faults.late").arg(2).arg(0.0)];
        let body = Signature::new("faults.sum").link_error(errback(9, true));
        let result = stage.runtime.block_on(stage.client().apply(chord(header, body))).unwrap();
        let mut victim = stage.worker("victim", 2);
        stage.await_runs("errback.9", 1, REPAIRED);
        victim.kill();
        let _heir = stage.worker("heir", 2);
        stage.await_runs("errbacks", 1, REPAIRED);
        stage.await_empty();
        assert_eq!(stage.runtime.block_on(result.state()).unwrap(), TaskState::Failure);
        assert_eq!((stage.runs("errback.9")[&9], stage.runs("errbacks")[&9]), (2, 1));
        stage.report("kill -9 in the middle of a chord's errback", "errbacks", 1);
    });
}

#[test]
fn a_warm_shutdown_waits_for_errbacks_and_a_cold_one_gives_their_messages_back() {
    let stage = Stage::new();
    stage.runtime.block_on(stage.client().apply(failing(1, true))).unwrap();
    let mut worker = stage.worker("one", 2);
    stage.await_runs("errback.1", 1, REPAIRED);
    worker.signal(Signal::SIGTERM);
    worker.wait_for_line("Warm shutdown", REPAIRED);
    // Its failure is stored long since; what it holds is its errback.
    assert!(!stage.held().is_empty());
    worker.signal(Signal::SIGQUIT);
    worker.wait(secs(20));
    assert!(stage.runs("errbacks").is_empty());
    assert_eq!(stage.ask(&["LLEN", "celery"]), 1);
    let _heir = stage.worker("heir", 2);
    stage.await_runs("errbacks", 1, REPAIRED);
    stage.await_empty();
    stage.report("SIGQUIT in the middle of an errback", "errbacks", 1);
}
