//! What is left when everybody is gone: keys that end by themselves, and those that docs/redis-keys.md says stay.

use celeriac::canvas::group;
use celeriac::message::Signature;
use compat_tests::{DocumentedKeys, KeyTable, KeyWatch, eventually, secs};
use serde_json::json;

use crate::mix::Mix;
use crate::stage::{REPAIRED, Stage, rounds};

#[test]
fn killed_clients_and_workers_leave_no_key_for_ever_and_no_connection() {
    let stage = Stage::new();
    let connections = || stage.figure("connected_clients");
    let baseline = connections();
    let mut survivor = stage.worker("survivor", 4);
    for round in 0..rounds(2) {
        let mut victim = stage.worker(&format!("victim{round}"), 4);
        let mix = Mix::send(&stage);
        let control = stage.client().control();
        for _ in 0..20 {
            stage.runtime.block_on(control.inspect().timeout(secs(5)).limit(1).ping()).unwrap();
        }
        stage.await_more_runs(10);
        victim.kill();
        // A client that asks all workers, and is killed while it waits for more answers than there are workers.
        let mut asking = stage.celery("inspect", &["ping", "--timeout", "60"]);
        eventually("it is bound to its answers", secs(30), || {
            stage.ask(&["EXISTS", "_kombu.binding.reply.celery.pidbox"]) == 1
        });
        asking.kill();
        mix.verify(&stage, "clients and workers killed, keys counted", 1);
        stage.forget_runs();
    }
    eventually("the dead workers are swept", REPAIRED, || stage.ask(&["ZCARD", "celeriac.inflight"]) == 1);
    assert!(survivor.terminate(secs(20)).success());
    let documented = DocumentedKeys::read(&[KeyTable::Staying], &["celery"]);
    let stays: Vec<String> = stage.keys_for_ever().into_iter().filter(|key| !documented.has(key)).collect();
    assert!(stays.is_empty(), "keys that stay for ever and are not in docs/redis-keys.md: {stays:?}");
    eventually("all connections are closed", REPAIRED, || connections() <= baseline + 2);
}

#[test]
fn every_key_of_one_database_is_documented() {
    every_key_is_documented(Stage::new());
}

#[test]
fn every_key_of_two_databases_is_documented() {
    every_key_is_documented(Stage::new().two_databases());
}

#[test]
fn every_key_of_two_servers_is_documented() {
    every_key_is_documented(Stage::new().two_servers());
}

/// Uses every part of the protocol, and looks at the keys that are written meanwhile.
fn every_key_is_documented(mut stage: Stage) {
    stage.set("CELERIAC_MAX_SCHEDULED", "5");
    stage.set("CELERIAC_MAX_DELIVERIES", "3");
    let watch = KeyWatch::of(&stage.redis);
    let mut victim = stage.worker("victim", 2);
    stage.send_due(9100, 10, 15.0, 1.0);
    stage.await_parked(5);
    let client = stage.client();
    stage.runtime.block_on(async {
        let step = |number: i64| Signature::new("faults.step").arg(number);
        let saved = client.apply(group((9200..9203).map(step))).await.unwrap();
        saved.save().await.unwrap();
        client.apply(step(9300).option("priority", 5)).await.unwrap();
        client.apply(Signature::new("no.such.task")).await.unwrap();
        client.control().revoke(["gone"]).await.unwrap();
        let stamps = json!({"tenant": ["acme"]});
        let by_stamps = celeriac::control::Broadcast::new("revoke_by_stamped_headers")
            .argument("headers", celeriac::Value::from(stamps));
        client.control().call(by_stamps).await.unwrap();
    });
    let mix = Mix::send(&stage);
    stage.await_more_runs(10);
    // What it runs comes back, and is counted.
    stage.send("faults.late", 9400, 2, 3.0);
    eventually("they run", REPAIRED, || stage.runs("started").contains_key(&9400));
    victim.kill();
    let _heir = stage.worker("heir", 4);
    mix.verify(&stage, "every key is documented", 1);
    stage.await_parked(0);
    let keys = watch.keys();
    let wanted = ["celeriac.eta.celery", "celeriac.revoked", "celeriac.revoked.stamps", "celeriac.dead"];
    for key in wanted.into_iter().chain(["unacked", "celery", "celery\u{6}\u{16}3"]) {
        assert!(keys.iter().any(|known| known == key), "{key} was not used: {keys:?}");
    }
    for part in ["celeriac.deliveries.", "celery-taskset-meta-", "celery-task-meta-", ".reply.celery.pidbox"]
    {
        assert!(keys.iter().any(|known| known.contains(part)), "no {part} was used: {keys:?}");
    }
    watch.assert_documented(&["celery"]);
}
