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
fn a_node_with_many_ranges_of_slots_is_asked_once() {
    let cluster = RedisCluster::with_ranges(&RedisServer::options(), false, 16);
    let stage = stage(&cluster);
    let mut worker = stage.worker("one", 4);
    stage.call(1);
    let accepted = || -> i64 {
        let of = |node: &RedisServer| -> i64 {
            let stats: String = redis::cmd("INFO").arg("stats").query(&mut node.connection()).unwrap();
            let count = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
            count.unwrap().parse().unwrap()
        };
        cluster.nodes().iter().map(of).sum()
    };
    let before = accepted();
    for node in cluster.nodes() {
        let mut kill = redis::cmd("CLIENT");
        kill.arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).exec(&mut node.connection()).unwrap();
    }
    worker.wait_for_line("reconnecting", SOON);
    stage.call(2);
    // There are 1,024 ranges.
    assert!(accepted() - before < 200, "{} connections", accepted() - before);
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
