//! Canvases made at random from a seed.

use std::collections::BTreeMap;

use compat_tests::{Process, secs, size};
use serde_json::Value as Json;

use crate::stage::{SOON, Stage};

/// `CANVASES=200` for the full number, `CANVAS_SEED=7` for other ones.
#[test]
fn random_canvases_give_the_same_results_and_events_at_celerys_worker_and_at_ours() {
    let (seed, count) = (size("CANVAS_SEED", 20_260), size("CANVASES", 30));
    let theirs = everything_of(seed, count, |stage| stage.stock_worker(1));
    let ours = everything_of(seed, count, |stage| stage.worker(1));
    assert!(ours.len() > 3 * count, "a canvas has tasks");
    let mut differences: BTreeMap<&str, i64> = BTreeMap::new();
    theirs.iter().for_each(|line| *differences.entry(line).or_default() -= 1);
    ours.iter().for_each(|line| *differences.entry(line).or_default() += 1);
    differences.retain(|_, count| *count != 0);
    // Celery leaves what waits for a failed task PENDING in some canvases; here all of it ends.
    let is_pending = |line: &str| line.starts_with("result ") && line.contains("\"PENDING\"");
    assert_eq!(ours.iter().find(|line| is_pending(line)), None, "a result that never comes");
    let number = |line: &str| line.split(' ').nth(1).map(str::to_owned);
    let pending: Vec<_> = theirs.iter().filter(|line| is_pending(line)).map(|line| number(line)).collect();
    differences.retain(|line, count| {
        let is_of_pending = line.starts_with("result ") && pending.contains(&number(line));
        let is_errback = line.starts_with("events ") && line.contains("\"name\": \"canvas.errback\"");
        let is_end = line.starts_with("never ran ") || is_errback && !pending.is_empty();
        !(is_of_pending || *count > 0 && is_end)
    });
    let shown: Vec<String> = differences
        .iter()
        .map(|(line, count)| format!("{} {line}", if *count > 0 { "ours  " } else { "theirs" }))
        .collect();
    assert!(shown.is_empty(), "{} lines differ of {}:\n{}", shown.len(), theirs.len(), shown.join("\n"));
}

/// All that a worker stores and publishes of canvases that wait for it when it starts: so their order is the same.
fn everything_of(seed: usize, count: usize, worker: impl Fn(&Stage) -> Process) -> Vec<String> {
    let stage = Stage::new();
    let file = stage.folder.path().join("everything.json");
    let arguments = ["compare", &seed.to_string(), &count.to_string(), &file.display().to_string()];
    let mut client = stage.script(&arguments).spawn();
    client.wait_for_line("sent", SOON);
    let _worker = worker(&stage);
    assert!(client.wait(secs(280)).success());
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// `MIXED_CANVASES=1000` for the full number.
#[test]
fn canvases_whose_steps_fall_on_workers_of_either_kind_all_have_the_right_result() {
    let stage = Stage::new();
    let _stock = stage.stock_worker(2);
    let count = size("MIXED_CANVASES", 60);
    let mut client = stage.script(&["mixed", "11", &count.to_string()]).spawn();
    // Celery's worker has its share until then; ours would leave it little.
    let deadline = secs(100 + count as u64);
    client.wait_for_line("^sent", deadline);
    let _ours = stage.worker(2);
    assert!(client.wait(deadline).success(), "{:?}", client.lines());
    let answer = client.lines_with(r"^\{").pop().expect("the client says what it found");
    let answer: Json = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["wrong"], Json::Array(Vec::new()), "{answer:#}");
    for node in ["rust@host", "stock@host"] {
        assert!(answer["ran"][node].as_u64().unwrap() > 20, "{node} had its share: {}", answer["ran"]);
    }
}
