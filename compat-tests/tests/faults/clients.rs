//! Clients of a broker that is away, full, or comes back while they try.

use std::time::{Duration, Instant};

use celeriac::message::Signature;
use compat_tests::secs;

use crate::stage::{REPAIRED, Stage};

#[test]
fn publishing_to_a_broker_that_is_away_fails_soon_and_succeeds_when_it_comes_back() {
    let mut stage = Stage::new();
    let client = stage.client();
    let call = || Signature::new("faults.late").arg(1).arg(0.0);
    stage.runtime.block_on(client.apply(call())).unwrap();
    stage.redis.kill();
    let start = Instant::now();
    assert!(stage.runtime.block_on(client.apply(call())).is_err());
    assert!(start.elapsed() < secs(5), "{:?}", start.elapsed());

    let sending = stage.runtime.spawn({
        let client = client.clone();
        async move {
            let number = Signature::new("faults.late").arg(2).arg(0.0);
            for _ in 0..100 {
                if client.apply(number.clone()).await.is_ok() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            false
        }
    });
    stage.redis.restart();
    assert!(stage.runtime.block_on(sending).unwrap());
    let _worker = stage.worker("one", 1);
    stage.await_runs("done", 1, REPAIRED);
}

#[test]
fn a_full_broker_is_told_to_clients_and_stops_no_worker() {
    let stage = Stage::new();
    stage.send("faults.late", 0, 200, 0.02);
    let mut worker = stage.worker("one", 5);
    stage.await_runs("done", 20, REPAIRED);
    let limit = |bytes: &str| {
        let set = ["SET", "maxmemory", bytes];
        let _: String = redis::cmd("CONFIG").arg(&set[..]).query(&mut stage.redis.connection()).unwrap();
    };
    limit("1");
    let call = Signature::new("faults.late").arg(1).arg(0.0);
    let refused = stage.runtime.block_on(stage.client().apply(call)).unwrap_err();
    assert!(format!("{refused:?}").contains("OOM"), "{refused:?}");
    worker.wait_for_line("The broker's memory is full", secs(20));
    stage.await_runs("done", 100, REPAIRED);
    limit("0");
    stage.await_runs("done", 200, REPAIRED);
    stage.await_empty();
    stage.report("-OOM answers", "done", 200);
    assert!(stage.runs("started").values().all(|runs| *runs == 1));
}
