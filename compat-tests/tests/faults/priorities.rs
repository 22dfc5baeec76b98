//! Priorities on Redis: kombu's order, whoever sends and whoever runs.

use celeriac::canvas::group;
use celeriac::message::Signature;
use compat_tests::{PythonEnv, secs};

use crate::stage::Stage;

/// The order in which kombu's four steps give out priorities 9, 8, ... 0, sent in this order.
const ORDER: [i64; 10] = [2, 1, 0, 5, 4, 3, 8, 7, 6, 9];

impl Stage {
    fn order(&self) -> Vec<i64> {
        redis::cmd("LRANGE").arg("started").arg(0).arg(-1).query(&mut self.record.connection()).unwrap()
    }

    fn send_with_priorities(&self, priorities: impl Iterator<Item = i64>) {
        let tasks = priorities.map(|priority| {
            Signature::new("faults.late").arg(priority).arg(0.05).option("priority", priority)
        });
        self.runtime.block_on(self.client().apply(group(tasks))).unwrap();
    }
}

#[test]
fn a_rust_worker_serves_priorities_of_a_stock_publisher_in_kombus_order() {
    let stage = Stage::new();
    let publish = "
import os
from celery import Celery
app = Celery(broker=os.environ['BROKER'])
for priority in reversed(range(10)):
    app.send_task('faults.late', (priority, 0.05), priority=priority)
";
    PythonEnv::get().script(publish).env("BROKER", stage.redis.url()).run().success();
    let _worker = stage.worker("one", 1);
    stage.await_runs("done", 10, secs(20));
    assert_eq!(stage.order(), ORDER);
}

#[test]
fn a_stock_worker_serves_priorities_of_a_rust_publisher_in_kombus_order() {
    let stage = Stage::new();
    stage.send_with_priorities((0..10).rev());
    let _worker = stage.stock_worker(1);
    stage.await_runs("done", 10, secs(60));
    assert_eq!(stage.order(), ORDER);
}

#[test]
fn an_urgent_task_does_not_wait_behind_what_its_worker_has_fetched_before() {
    let mut stage = Stage::new();
    stage.set("WORKER_PREFETCH_MULTIPLIER", "20");
    stage.send_with_priorities(std::iter::repeat_n(9, 40));
    let _worker = stage.worker("one", 1);
    stage.await_runs("started", 1, secs(20));
    stage.send_with_priorities(std::iter::once(0));
    let before = stage.order().len();
    stage.await_runs("started", 2, secs(20));
    let place = stage.order().iter().position(|priority| *priority == 0).unwrap();
    assert!(place <= before + 4, "it was sent when {before} had started, and started as number {place}");
}
