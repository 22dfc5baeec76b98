//! A Redis Cluster whose keys all have one hash tag.

use compat_tests::{RedisCluster, RedisServer, secs};
use serde_json::json;

use crate::stage::{SOON, Stage, rounds};

const PREFIX: &str = "{app}:";

fn stage(cluster: &RedisCluster) -> Stage {
    Stage::at(cluster.url()).options(json!({"global_keyprefix": PREFIX}))
}

#[test]
fn a_worker_and_clients_meet_in_a_cluster() {
    let cluster = RedisCluster::start(&RedisServer::options(), false);
    let stage = stage(&cluster);
    // Kombu does not know clusters, but all keys being on one node, that node is a server like any other.
    let node = cluster.owner(PREFIX).url();
    stage.works_with_everybody(json!({"broker_url": node, "result_backend": node}));
}

#[test]
fn slots_move_while_tasks_run_and_are_sent() {
    const EACH: i64 = 200;
    let cluster = RedisCluster::start(&RedisServer::options(), false);
    let stage = stage(&cluster);
    let mut worker = stage.worker("one", 10);
    for round in 0..rounds(2) {
        let first = round as i64 * EACH;
        stage.send(first, EACH / 2, 0.05);
        std::thread::scope(|scope| {
            let moving = scope.spawn(|| cluster.move_slot(PREFIX, 10));
            for number in first + EACH / 2..first + EACH {
                stage.send(number, 1, 0.0);
            }
            moving.join().expect("the slot moves");
        });
        stage.await_done(first..first + EACH, SOON);
        stage.call(-1);
    }
    assert!(worker.terminate(secs(30)).success());
}

#[test]
fn a_replica_takes_over_while_tasks_run() {
    const EACH: i64 = 200;
    let mut cluster = RedisCluster::start(&RedisServer::options(), true);
    let stage = stage(&cluster);
    let mut worker = stage.worker("one", 10);
    for round in 0..rounds(1) {
        let first = round as i64 * EACH;
        stage.send(first, EACH, 0.05);
        // What was sent is on the replica.
        let copies: i64 =
            redis::cmd("WAIT").arg(&[1, 10_000]).query(&mut cluster.owner(PREFIX).connection()).unwrap();
        assert_eq!(copies, 1);
        cluster.kill_owner(PREFIX);
        stage.await_done(first..first + EACH, SOON);
        stage.call(-1);
    }
    assert!(worker.terminate(secs(30)).success());
}
