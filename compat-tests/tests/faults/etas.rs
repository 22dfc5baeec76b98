//! More tasks with an eta than a worker keeps in its memory.

use std::time::{SystemTime, UNIX_EPOCH};

use celeriac::canvas::group;
use celeriac::message::Signature;
use compat_tests::{eventually, secs};

use crate::stage::{REPAIRED, Stage, rounds};

impl Stage {
    /// A stage whose workers keep at most ten tasks until their eta.
    fn with_parking() -> Self {
        let mut stage = Self::new();
        stage.set("CELERIAC_MAX_SCHEDULED", "10");
        stage
    }

    /// Sends `count` tasks numbered from `first` that are due in `soonest` seconds and later, spread over `span` seconds.
    pub(crate) fn send_due(&self, first: usize, count: usize, soonest: f64, span: f64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let tasks = (0..count).map(|number| {
            let wait = soonest + span * number as f64 / count as f64;
            Signature::new("faults.due")
                .arg((first + number) as i64)
                .arg(now + wait)
                .option("countdown", wait)
        });
        self.runtime.block_on(self.client().apply(group(tasks))).unwrap();
    }

    fn parked(&self) -> i64 {
        self.ask(&["ZCARD", "celeriac.eta.celery"])
    }

    #[track_caller]
    pub(crate) fn await_parked(&self, count: i64) {
        eventually(&format!("{count} are parked"), REPAIRED, || match self.parked() {
            parked if parked == count => Ok(()),
            parked => Err(format!("{parked} of {count}; {}", self.held())),
        });
    }
}

#[test]
fn tasks_beyond_the_bound_are_parked_and_start_once_when_they_are_due() {
    let stage = Stage::with_parking();
    let count = rounds(1) * 600;
    let _workers = [stage.worker("one", 4), stage.worker("two", 4), stage.worker("three", 4)];
    stage.send_due(0, count, 15.0, 5.0);
    stage.await_parked(count as i64 - 30);
    stage.send("faults.late", count, 1, 0.0);
    stage.await_runs("done", 1, secs(10));
    assert_eq!(stage.parked(), count as i64 - 30, "a task without eta does not wait for others");
    stage.await_runs("done", count + 1, REPAIRED);
    stage.await_empty();
    assert_eq!(stage.parked(), 0);
    stage.report("parked etas", "done", count + 1);
    assert!(stage.runs("started").values().all(|runs| *runs == 1));
    let late = *stage.runs("late_ms").keys().max().unwrap();
    println!("latest start after its eta: {late} ms");
    assert!(*stage.runs("late_ms").keys().min().unwrap() >= 0, "nothing starts before its eta");
}

#[test]
fn parked_tasks_start_in_time_though_the_next_worker_has_another_visibility_timeout() {
    let mut stage = Stage::with_parking();
    let mut worker = stage.worker("leaving", 2);
    stage.send_due(0, 30, 12.0, 1.0);
    stage.await_parked(20);
    assert!(worker.terminate(secs(20)).success());
    stage.set("BROKER_TRANSPORT_OPTIONS", r#"{"visibility_timeout": 43200}"#);
    let _heir = stage.worker("heir", 2);
    // Whoever takes them for held by somebody else leaves them to a sweep, twelve hours later.
    stage.await_runs("done", 30, REPAIRED);
    stage.await_empty();
    stage.report("parked etas, another visibility timeout", "done", 30);
    assert!(stage.runs("started").values().all(|runs| *runs == 1));
    assert!(*stage.runs("late_ms").keys().min().unwrap() >= 0, "nothing starts before its eta");
}

#[test]
fn a_stock_worker_restores_parked_messages_and_what_is_left_of_them_does_no_harm() {
    let stage = Stage::with_parking();
    let mut worker = stage.worker("leaving", 2);
    stage.send_due(0, 30, 12.0, 1.0);
    stage.await_parked(20);
    assert!(worker.terminate(secs(20)).success());
    assert_eq!(
        (stage.parked(), stage.ask(&["LLEN", "celery"])),
        (20, 10),
        "parked ones stay, held ones go back"
    );
    eventually("the parked ones are overdue", secs(60), || stage.overdue(5) == 20);
    let _stock = stage.stock_worker(4);
    stage.await_runs("done", 30, REPAIRED);
    stage.await_empty();
    let _worker = stage.worker("heir", 2);
    stage.await_parked(0);
    stage.report("parked, restored by a stock worker", "done", 30);
    assert!(stage.runs("started").values().all(|runs| *runs == 1));
}

#[test]
fn a_parked_task_that_is_revoked_never_starts() {
    let stage = Stage::with_parking();
    let _worker = stage.worker("one", 2);
    stage.send_due(0, 10, 3600.0, 1.0);
    let client = stage.client();
    let later = |number: i64| {
        let task = Signature::new("faults.late").arg(number).arg(0.0);
        task.option("countdown", 8).option("task_id", format!("later-{number}"))
    };
    stage.runtime.block_on(client.apply(group((10..20).map(later)))).unwrap();
    stage.await_parked(10);
    let revoked = (10..15).map(|number| format!("later-{number}"));
    stage.runtime.block_on(client.control().revoke(revoked)).unwrap();
    stage.await_runs("done", 5, REPAIRED);
    eventually("the revoked ones are dropped", REPAIRED, || stage.ask(&["HLEN", "unacked"]) == 10);
    assert!(stage.runs("started").into_keys().eq(15..20));
}
