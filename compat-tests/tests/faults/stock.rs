//! Celery's own workers in the fleet: each side restores what the other held.

use compat_tests::{eventually, secs};

use crate::stage::{REPAIRED, Stage};

#[test]
fn a_stock_worker_runs_what_a_dead_rust_worker_held() {
    let stage = Stage::new();
    stage.send("faults.late", 0, 10, 3.0);
    let mut victim = stage.worker("victim", 10);
    stage.await_runs("started", 10, secs(20));
    // Before that a message is in an in-flight list, which only workers in Rust know.
    eventually("all are recorded", secs(20), || stage.ask(&["HLEN", "unacked"]) == 10);
    victim.kill();
    // kombu sweeps when it starts, and then only every 100 seconds.
    eventually("the lease ends", secs(20), || stage.overdue(5) == 10);
    let _stock = stage.stock_worker(4);
    stage.await_runs("done", 10, REPAIRED);
    stage.await_empty();
    stage.report("a stock worker restores", "done", 10);
}

#[test]
fn a_rust_worker_runs_what_a_dead_stock_worker_held() {
    let stage = Stage::new();
    stage.send("faults.late", 0, 10, 4.0);
    let mut victim = stage.stock_worker(2);
    stage.await_runs("started", 2, secs(20));
    // A message between kombu's BRPOP and its bookkeeping is lost with the worker: that is kombu's own gap.
    eventually("all that it prefetches are recorded", secs(20), || stage.ask(&["HLEN", "unacked"]) == 8);
    victim.kill();
    let _heir = stage.worker("heir", 10);
    stage.await_runs("done", 10, REPAIRED);
    stage.await_empty();
    stage.report("a rust worker restores", "done", 10);
}
