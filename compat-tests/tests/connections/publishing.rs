//! What a client's `send` does while the broker cannot be reached.

use std::time::{Duration, Instant};

use celeriac::message::Signature;
use compat_tests::{Proxy, RedisServer, eventually, secs};

use crate::stage::{SOON, Stage};

fn task(number: i64) -> Signature {
    Signature::new("faults.late").arg(number).arg(0.0)
}

#[test]
fn sending_into_a_black_hole_fails_at_its_deadline() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.port());
    let stage = Stage::at(format!("redis://127.0.0.1:{}/0", proxy.port()));
    let (connected, fresh) = (stage.client(), stage.client());
    stage.runtime.block_on(connected.apply(task(1))).unwrap();
    proxy.black_hole();
    for client in [&connected, &fresh] {
        let start = Instant::now();
        let error = stage.runtime.block_on(client.apply(task(2))).unwrap_err().to_string();
        let taken = start.elapsed();
        assert!(taken > Duration::from_millis(4500) && taken < secs(10), "{taken:?}");
        assert!(error.contains("celeriac_publish_timeout") && error.contains("127.0.0.1"), "{error}");
        println!("failed after {taken:?}: {error}");
    }
    proxy.forget();
    eventually("the client sends again", SOON, || stage.runtime.block_on(connected.apply(task(3))).map(drop));
    let _worker = stage.worker("one", 1);
    stage.await_done([1, 3], SOON);
}

#[test]
fn the_deadline_of_sending_is_a_setting() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.port());
    let stage =
        Stage::at(format!("redis://127.0.0.1:{}/0", proxy.port())).set("celeriac_publish_timeout", 0.5);
    let client = stage.client();
    stage.runtime.block_on(client.apply(task(1))).unwrap();
    proxy.black_hole();
    let start = Instant::now();
    let senders = (0..200).map(|number| {
        let client = client.clone();
        stage.runtime.spawn(async move { client.apply(task(number)).await })
    });
    for sender in senders.collect::<Vec<_>>() {
        stage.runtime.block_on(sender).unwrap().expect_err("nothing goes through");
    }
    assert!(start.elapsed() < secs(5), "they fail together: {:?}", start.elapsed());
}
