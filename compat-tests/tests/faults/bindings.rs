//! An exchange whose bindings are deleted, or evicted, while everybody goes on.

use celeriac::Celery;
use celeriac::config::Config;
use celeriac::message::Signature;
use compat_tests::{eventually, secs};

use crate::stage::{REPAIRED, Stage};

const QUEUES: &str =
    r##"{"orders": {"exchange": "shop", "exchange_type": "topic", "routing_key": "order.#"}, "celery": {}}"##;
const ALL: &str = "_kombu.binding.shop";
const PERMANENT: &str = "_kombu.binding_permanent.shop";

impl Stage {
    /// Sends a task to the topic exchange.
    fn send_order(&self, client: &Celery, number: i64) {
        let task = Signature::new("faults.late").arg(number).arg(0.0);
        let task = task.option("exchange", "shop").option("routing_key", "order.new");
        self.runtime.block_on(client.apply(task)).unwrap();
    }
}

#[test]
fn messages_are_routed_although_the_bindings_are_deleted_before_each() {
    let mut stage = Stage::new();
    stage.set("TASK_QUEUES", QUEUES);
    let _worker = stage.worker("one", 2);
    let client = stage.client();
    let count = 50;
    for number in 0..count {
        stage.tell(&["DEL", ALL]);
        stage.send_order(&client, number);
    }
    stage.await_runs("done", count as usize, REPAIRED);
    stage.await_empty();
    stage.report("bindings deleted", "done", count as usize);
    assert!(stage.runs("started").values().all(|runs| *runs == 1));
}

#[test]
fn a_worker_keeps_its_queues_bound() {
    let mut stage = Stage::new();
    stage.set("TASK_QUEUES", QUEUES);
    let _worker = stage.worker("one", 2);
    for number in 0..3 {
        stage.tell(&["DEL", ALL, PERMANENT]);
        eventually("the queue is bound again", secs(20), || stage.ask(&["EXISTS", ALL, PERMANENT]) == 2);
        stage.send_order(&stage.client(), number);
    }
    stage.await_runs("done", 3, REPAIRED);
    stage.tell(&["FLUSHALL"]);
    eventually("the queue is bound again", secs(20), || stage.ask(&["EXISTS", ALL, PERMANENT]) == 2);
}

#[test]
fn a_client_binds_the_queues_that_it_declares() {
    let mut stage = Stage::new();
    let mut config = Config::default();
    config.set("broker_url", &stage.redis.url()).unwrap();
    config.set("task_queues", QUEUES).unwrap();
    let client = Celery::new("faults", config).unwrap();
    for number in 0..3 {
        stage.tell(&["DEL", ALL, PERMANENT]);
        stage.send_order(&client, number);
    }
    assert_eq!(stage.ask(&["LLEN", "orders"]), 3);
    stage.set("TASK_QUEUES", QUEUES);
    let _worker = stage.worker("one", 2);
    stage.await_runs("done", 3, REPAIRED);
}
