//! Several broker URLs, of which any will do.

use compat_tests::{Port, RedisServer, eventually, secs};
use serde_json::json;

use crate::stage::{SOON, Stage};

#[test]
fn the_next_alternative_is_taken_when_one_is_lost() {
    let nobody = Port::free();
    let results = RedisServer::start();
    let (mut first, second) = (RedisServer::start(), RedisServer::start());
    let url = format!("redis://127.0.0.1:{}/0;{};{}", nobody.number(), first.url(), second.url());
    let stage = Stage::at(url).set("result_backend", results.url());
    let mut worker = stage.worker("one", 4);
    stage.call(1);
    stage.call_from_python(2, json!({}));
    first.kill();
    // Whoever comes later finds the same server as the worker: the first that is there.
    eventually("the worker consumes from the second", SOON, || {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut second.connection()).unwrap();
        clients.contains("flags=t")
    });
    stage.call(3);
    stage.call_from_python(4, json!({}));
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn an_alternative_that_has_become_a_replica_is_left() {
    let results = RedisServer::start();
    let (first, second) = (RedisServer::start(), RedisServer::start());
    let url = format!("{};{}", first.url(), second.url());
    let stage =
        Stage::at(url).set("result_backend", results.url()).set("broker_failover_strategy", "shuffle");
    let _worker = stage.worker("one", 4);
    let client = stage.client();
    stage.call(1);
    let port = second.port().to_string();
    let _: String =
        redis::cmd("REPLICAOF").arg(&["127.0.0.1", &port]).query(&mut first.connection()).unwrap();
    let task = celeriac::message::Signature::new("faults.late").arg(2).arg(0.0);
    stage.runtime.block_on(client.apply(task)).expect("the second takes it");
    stage.await_done([2], SOON);
}
