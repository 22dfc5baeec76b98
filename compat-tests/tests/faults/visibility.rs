//! Tasks and etas longer than the visibility timeout, and a worker that stands still.

use celeriac::canvas::group;
use celeriac::message::Signature;
use compat_tests::{Signal, eventually, secs};

use crate::stage::{REPAIRED, Stage, rounds};

#[test]
fn tasks_and_etas_longer_than_the_visibility_timeout_start_once() {
    let stage = Stage::new();
    let _workers = [stage.worker("one", 20), stage.worker("two", 20), stage.worker("three", 20)];
    // FAULTS_SOAK=2: 60 running and 1,000 waiting.
    let (running, waiting) = (rounds(30), rounds(500));
    stage.send("faults.late", 0, running, 14.0);
    let later = (running..running + waiting)
        .map(|number| Signature::new("faults.late").arg(number as i64).arg(0.0).option("countdown", 13));
    stage.runtime.block_on(stage.client().apply(group(later))).unwrap();
    stage.await_runs("done", running + waiting, REPAIRED);
    stage.await_empty();
    stage.report("visibility_timeout 5, tasks and etas of 13 s", "done", running + waiting);
    assert!(stage.runs("started").values().all(|runs| *runs == 1), "{:?}", stage.runs("started"));
}

#[test]
fn what_a_rust_worker_holds_or_has_parked_is_not_started_by_stock_workers_too() {
    let mut stage = Stage::new();
    stage.set("CELERIAC_MAX_SCHEDULED", "10");
    stage.set("WORKER_PREFETCH_MULTIPLIER", "1");
    let (running, waiting) = (20, rounds(1) * 100);
    // With slots to spare: a full window fetches no eta either.
    let mut workers = [stage.worker("one", 20), stage.worker("two", 20)];
    stage.send("faults.late", 0, running, 20.0);
    stage.await_runs("started", running, secs(20));
    let later = (running..running + waiting)
        .map(|number| Signature::new("faults.late").arg(number as i64).arg(0.0).option("countdown", 20));
    stage.runtime.block_on(stage.client().apply(group(later))).unwrap();
    let held = (running + waiting) as i64;
    eventually("all are held or parked", REPAIRED, || stage.ask(&["ZCARD", "unacked_index"]) == held);
    // kombu sweeps when it starts: everything here is older than its visibility timeout, or soon will be.
    let _stock = [stage.stock_worker(2), stage.stock_worker(2)];
    stage.await_runs("done", running + waiting, REPAIRED);
    stage.await_empty();
    stage.report("visibility_timeout 5 in a mixed fleet", "done", running + waiting);
    assert!(stage.runs("started").values().all(|runs| *runs == 1), "{:?}", stage.runs("started"));
    workers.iter_mut().for_each(|worker| assert!(worker.terminate(secs(20)).success()));
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
