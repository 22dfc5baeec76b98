//! What is left when everybody is gone: keys that end by themselves, and those that docs/redis-keys.md says stay.

use compat_tests::{eventually, secs, workspace_root};
use regex::Regex;

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
    let patterns = documented();
    let stays: Vec<String> =
        stage.keys_for_ever().into_iter().filter(|key| !is_documented(&patterns, key)).collect();
    assert!(stays.is_empty(), "keys that stay for ever and are not in docs/redis-keys.md: {stays:?}");
    eventually("all connections are closed", REPAIRED, || connections() <= baseline + 2);
}

/// The patterns of the second table of the page.
fn documented() -> Vec<Regex> {
    let page = std::fs::read_to_string(workspace_root().join("docs/redis-keys.md")).unwrap();
    let (_, stays) = page.split_once("## Keys that stay").unwrap();
    let keys = stays.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let name = Regex::new(r"<\w+>").unwrap();
    let patterns = keys.flat_map(|keys| keys.split("`, `")).map(|key| {
        let escaped = regex::escape(key.trim_matches('`'));
        Regex::new(&format!("^{}$", name.replace_all(&escaped, ".+"))).unwrap()
    });
    let patterns: Vec<Regex> = patterns.collect();
    assert!(patterns.len() > 3, "the page has a table of the keys that stay");
    patterns
}

fn is_documented(patterns: &[Regex], key: &str) -> bool {
    patterns.iter().any(|pattern| pattern.is_match(key))
}
