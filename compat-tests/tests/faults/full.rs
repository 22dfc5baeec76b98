//! A broker whose memory is full, and stays so whatever workers free.

use celeriac::canvas::{chord, group};
use celeriac::message::Signature;
use compat_tests::{Signal, eventually, secs};

use crate::stage::{Layout, REPAIRED, Stage, at_once, rounds};

/// Larger than `MEMORY` even when everything else is gone.
const BALLAST: i64 = 24 << 20;
const MEMORY: &str = "8mb";

impl Stage {
    pub(crate) fn set_memory(&self, bytes: &str) {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(bytes);
        set.exec(&mut self.redis.connection()).unwrap();
    }

    /// Lets the broker be full for good.
    pub(crate) fn fill(&self) {
        self.ask(&["SETRANGE", "ballast", &BALLAST.to_string(), "x"]);
        self.set_memory(MEMORY);
    }

    fn stored_results(&self) -> usize {
        let mut keys = redis::cmd("KEYS");
        keys.arg("celery-task-meta-*");
        let client = redis::Client::open(self.redis.url_of_db(self.results)).unwrap();
        keys.query::<Vec<String>>(&mut client.get_connection().unwrap()).unwrap().len()
    }
}

#[test]
fn workers_drain_a_full_broker_and_what_needs_memory_is_caught_up() {
    at_once([Layout::OneDatabase, Layout::TwoDatabases].into_iter(), drain_a_full_broker);
}

fn drain_a_full_broker(layout: Layout) {
    let stage = Stage::new().with(layout);
    let count = rounds(1) * 300;
    let large = 20;
    stage.send("faults.late", 0, count, 0.02);
    stage.send("faults.early", count, count, 0.02);
    let results = (0..large).map(|number| {
        Signature::new("faults.large").arg((2 * count + number) as i64).arg(20_000).option("queue", "celery")
    });
    stage.runtime.block_on(stage.client().apply(group(results))).unwrap();
    let header = (0..10).map(|number| Signature::new("faults.step").arg(number));
    stage.runtime.block_on(stage.client().apply(chord(header, Signature::new("faults.sum")))).unwrap();
    stage.fill();
    let sent = stage.runtime.block_on(stage.client().apply(Signature::new("faults.late").arg(-1).arg(0.0)));
    let told = sent.map(drop).expect_err("a full broker takes no message");
    assert!(format!("{told:?}").contains("OOM command not allowed"), "{told:?}");

    let mut workers = [stage.worker("one", 10), stage.worker("two", 10)];
    stage.await_runs("done", 2 * count + large, REPAIRED);
    eventually("the header has run", REPAIRED, || stage.runs("steps").len() == 10);
    eventually("what pays for itself is stored", REPAIRED, || match stage.stored_results() {
        stored if stored >= 2 * count => Ok(()),
        stored => Err(format!("{stored} results; {}", stage.held())),
    });
    assert_eq!(stage.ask(&["LLEN", "celery"]), 0);

    stage.set_memory("0");
    eventually("everything is stored", REPAIRED, || match stage.stored_results() {
        stored if stored == 2 * count + large + 11 => Ok(()),
        stored => Err(format!("{stored} results; {}", stage.held())),
    });
    stage.await_empty();
    stage.report(&format!("redis full, then not, {layout}"), "done", 2 * count + large);
    assert!(stage.runs("started").values().all(|runs| *runs == 1), "{:?}", stage.runs("started"));
    assert_eq!(stage.runs("sums").into_iter().collect::<Vec<_>>(), [(55, 1)]);
    workers.iter_mut().for_each(|worker| assert!(worker.terminate(secs(20)).success()));
}

#[test]
fn a_worker_renews_and_leaves_also_while_the_broker_is_full() {
    let mut stage = Stage::new();
    stage.set("WORKER_PREFETCH_MULTIPLIER", "2");
    let mut workers = [stage.worker("one", 10), stage.worker("two", 10)];
    stage.send("faults.late", 0, 60, 12.0);
    stage.await_runs("started", 20, secs(20));
    stage.fill();
    // Twice the visibility timeout and more: what is not renewed would be started again.
    stage.await_runs("done", 20, REPAIRED);
    workers.iter_mut().for_each(|worker| worker.signal(Signal::SIGTERM));
    workers.iter_mut().for_each(|worker| assert!(worker.wait(secs(60)).success()));
    let left = 60 - stage.runs("done").len();
    assert_eq!((stage.ask(&["LLEN", "celery"]), stage.held()), (left as i64, "celery".to_owned()));
    assert!(stage.runs("started").values().all(|runs| *runs == 1), "{:?}", stage.runs("started"));
}
