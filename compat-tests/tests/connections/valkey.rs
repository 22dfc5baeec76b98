//! Valkey in the place of Redis.

use compat_tests::{RedisServer, eventually, secs};
use serde_json::json;

use crate::failures::resumes_after_outages;
use crate::stage::{SOON, Stage, rounds};

#[test]
fn a_worker_and_clients_meet_on_valkey() {
    let valkey = RedisServer::options().valkey().start();
    let stage = Stage::at(valkey.url());
    stage.works_with_everybody(json!({}));
    let _worker = stage.worker("one", 4);
    stage.everything();
}

#[test]
fn what_a_killed_worker_had_comes_back_from_valkey() {
    let valkey = RedisServer::options().valkey().start();
    let stage = Stage::at(valkey.url());
    let mut victim = stage.worker("victim", 4);
    stage.send(0, 40, 1.0);
    eventually("some are done, others run", SOON, || stage.count() > 4);
    victim.kill();
    let _heir = stage.worker("heir", 40);
    stage.await_done(0..40, secs(60));
    eventually("nothing is left in the broker", SOON, || Stage::held(&valkey));
}

#[test]
fn every_kind_of_outage_of_valkey_is_survived() {
    resumes_after_outages(RedisServer::options().valkey(), rounds(5));
}
