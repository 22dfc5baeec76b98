//! Releases of celeriac on one broker: the keys that an earlier one left, and its workers as peers.
//!
//! `compat-tests/capture/capture_release.py` records the keys of a release.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use celeriac::backend::TaskState;
use compat_tests::{RedisServer, eventually, run, secs, workspace_root};
use serde_json::Value;

use crate::mix::Mix;
use crate::stage::{REPAIRED, Stage, at_once};

#[test]
fn this_release_takes_over_what_earlier_ones_left() {
    let samples = recorded();
    assert!(samples.len() >= 9, "the samples of the first release are there: {samples:?}");
    at_once(samples.into_iter(), |path| take_over(&path));
}

/// The samples of all releases.
fn recorded() -> Vec<PathBuf> {
    let files = |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let releases = files(workspace_root().join("compat-tests/vectors/releases"));
    releases.filter(|path| path.is_dir()).flat_map(files).collect()
}

fn take_over(path: &PathBuf) {
    let sample: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut stage = Stage::new();
    if sample["results"] == 1 {
        stage = stage.two_databases();
    }
    stage.set("CELERIAC_DEAD_LETTER_REJECTED", "true");
    for (database, keys) in sample["databases"].as_object().unwrap() {
        load(&stage.redis, database.parse().unwrap(), keys, sample["time"].as_i64().unwrap());
    }
    let _heir = stage.worker("heir", 4);
    for (list, numbers) in sample["expected"].as_object().unwrap() {
        let wanted = numbers_of(numbers);
        eventually(&format!("{}: {list} of {wanted:?}", path.display()), REPAIRED, || {
            let ran: BTreeSet<i64> =
                stage.runs(list).into_keys().chain(numbers_of(&sample["ran"][list])).collect();
            if wanted.is_subset(&ran) {
                Ok(())
            } else {
                Err(format!("{ran:?}; the broker holds {}", stage.held()))
            }
        });
    }
    stage.await_empty();
    let ids = sample["revoked"].as_array().into_iter().flatten().map(|id| id.as_str().unwrap());
    for id in ids {
        let state = || stage.runtime.block_on(stage.client().result(id).state()).unwrap();
        eventually("it is revoked", secs(20), || state() == TaskState::Revoked);
    }
    let dead: Vec<&str> =
        sample["dead"].as_array().into_iter().flatten().map(|task| task.as_str().unwrap()).collect();
    let listed = run(&stage.celeriac(&["dead", "list"]), secs(20)).success();
    assert_eq!(listed.lines().count(), dead.len(), "{listed}");
    assert!(dead.iter().all(|task| listed.contains(task)), "{listed}");
}

fn numbers_of(numbers: &Value) -> BTreeSet<i64> {
    numbers.as_array().into_iter().flatten().map(|number| number.as_i64().unwrap()).collect()
}

/// Writes recorded keys into a database, as if they had been written just now.
fn load(redis: &RedisServer, database: u8, keys: &Value, recorded: i64) {
    let client = redis::Client::open(redis.url_of_db(database)).unwrap();
    let mut connection = client.get_connection().unwrap();
    let (now, _): (i64, i64) = redis::cmd("TIME").query(&mut connection).unwrap();
    let later = (now - recorded) as f64;
    for (key, sample) in keys.as_object().unwrap() {
        let (kind, value) = (sample["type"].as_str().unwrap(), &sample["value"]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut write = redis::cmd(match kind {
            "string" => "SET",
            "list" => "RPUSH",
            "hash" => "HSET",
            "set" => "SADD",
            "zset" => "ZADD",
            kind => panic!("{key} is a {kind}"),
        });
        write.arg(key);
        match kind {
            "string" => drop(write.arg(text(value))),
            "hash" => value.as_object().unwrap().iter().for_each(|(field, value)| {
                write.arg(field).arg(text(value));
            }),
            "zset" => value.as_array().unwrap().iter().for_each(|pair| {
                // The parts of a chord are in their order, everything else by time.
                let shift = if key.ends_with(".j") { 0.0 } else { later };
                write.arg(pair[1].as_f64().unwrap() + shift).arg(text(&pair[0]));
            }),
            _ => value.as_array().unwrap().iter().for_each(|item| {
                write.arg(text(item));
            }),
        }
        let _: redis::Value = write.query(&mut connection).unwrap();
        if let Some(seconds) = sample["ttl"].as_i64().filter(|seconds| *seconds > 0) {
            let _: i64 = redis::cmd("EXPIRE").arg(key).arg(seconds).query(&mut connection).unwrap();
        }
    }
}

#[test]
fn workers_of_two_releases_bring_back_what_the_other_held() {
    let stage = Stage::new();
    let mix = Mix::send(&stage);
    let (mut previous, mut current) = (stage.previous_worker("previous", 4), stage.worker("current", 4));
    stage.await_more_runs(10);
    previous.kill();
    stage.await_more_runs(10);
    let _heir = stage.previous_worker("heir", 4);
    current.kill();
    let _last = stage.worker("last", 4);
    mix.verify(&stage, "two releases, a worker of each killed", 2);
    let runs: BTreeMap<i64, usize> = stage.runs("sums");
    assert!(!runs.is_empty());
}
