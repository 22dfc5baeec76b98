//! A master that Sentinels name, and its successors.

use compat_tests::{Certificates, RedisServer, Sentinels, secs};
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, rounds};

fn stage(sentinels: &Sentinels, login: &str, kwargs: Value) -> Stage {
    let options = json!({"master_name": "mymaster", "sentinel_kwargs": kwargs});
    Stage::at(sentinels.url(login, 2)).options(options)
}

#[test]
fn the_master_is_found_and_python_finds_the_same() {
    let redis = RedisServer::options().password("for-redis");
    let sentinels = Sentinels::start(&redis, Some("for-sentinels"));
    stage(&sentinels, ":for-redis@", json!({"password": "for-sentinels"})).works_with_everybody(json!({}));
}

#[test]
fn failovers_under_load_lose_nothing_that_was_replicated() {
    let mut sentinels = Sentinels::start(&RedisServer::options(), None);
    let stage = stage(&sentinels, "", json!({}));
    follow_failovers(&stage, &mut sentinels, rounds(3));
}

#[test]
fn failovers_are_followed_over_tls() {
    let certificates = Certificates::make();
    let mut sentinels = Sentinels::start(&RedisServer::options().tls(&certificates, false), None);
    let stage = stage(&sentinels, "", json!({}))
        .ssl(json!({"ssl_cert_reqs": "required", "ssl_ca_certs": certificates.authority()}));
    follow_failovers(&stage, &mut sentinels, rounds(1));
}

fn follow_failovers(stage: &Stage, sentinels: &mut Sentinels, failovers: usize) {
    const EACH: i64 = 200;
    let mut worker = stage.worker("one", 10);
    for failover in 0..failovers {
        let first = failover as i64 * EACH;
        stage.send(first, EACH, 0.05);
        sentinels.await_replicated();
        match failover % 3 {
            0 => sentinels.kill_master(),
            1 => sentinels.switch(),
            _ => sentinels.freeze_master(),
        }
        stage.await_done(first..first + EACH, SOON);
        stage.call(-1);
    }
    assert!(worker.is_running());
    assert!(worker.terminate(secs(30)).success());
}
