//! Tasks and etas longer than the visibility timeout, and a worker that stands still.

use celeriac::canvas::group;
use celeriac::message::Signature;
use compat_tests::{Signal, secs};

use crate::stage::{REPAIRED, Stage};

#[test]
fn tasks_and_etas_longer_than_the_visibility_timeout_start_once() {
    let stage = Stage::new();
    let _workers = [stage.worker("one", 20), stage.worker("two", 20), stage.worker("three", 20)];
    stage.send("faults.late", 0, 30, 14.0);
    let later =
        (30..60).map(|number| Signature::new("faults.late").arg(number).arg(0.0).option("countdown", 13));
    stage.runtime.block_on(stage.client().apply(group(later))).unwrap();
    stage.await_runs("done", 60, REPAIRED);
    stage.await_empty();
    stage.report("visibility_timeout 5, tasks and etas of 13 s", "done", 60);
    assert!(stage.runs("started").values().all(|runs| *runs == 1), "{:?}", stage.runs("started"));
}

#[test]
fn a_worker_that_stands_still_is_replaced_and_does_no_harm_when_it_goes_on() {
    let stage = Stage::new();
    stage.send("faults.late", 0, 40, 1.0);
    let mut sleeper = stage.worker("sleeper", 10);
    stage.await_runs("started", 10, secs(20));
    sleeper.signal(Signal::SIGSTOP);
    let mut heir = stage.worker("heir", 20);
    stage.await_runs("done", 40, REPAIRED);
    sleeper.signal(Signal::SIGCONT);
    stage.await_empty();
    stage.send("faults.late", 40, 40, 0.1);
    stage.await_runs("done", 80, REPAIRED);
    stage.await_empty();
    stage.report("SIGSTOP beyond the visibility timeout", "done", 80);
    let more: usize = stage.runs("done").values().map(|runs| runs - 1).sum();
    assert!(more <= 40, "{more}");
    assert!(sleeper.terminate(secs(20)).success() && heir.terminate(secs(20)).success());
}
