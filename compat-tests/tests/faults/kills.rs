//! Workers that are killed without warning.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use celeriac::canvas::{chain, chord};
use celeriac::message::Signature;
use compat_tests::{Process, eventually, secs, size};

use crate::stage::{REPAIRED, Stage, rounds};

#[test]
fn late_acked_tasks_of_a_killed_worker_run_within_a_minute_under_the_usual_visibility_timeout() {
    let mut stage = Stage::new();
    stage.settings.clear();
    stage.send("faults.late", 0, 20, 3600.0);
    let mut victim = stage.worker("victim", 10);
    stage.await_runs("started", 10, secs(20));
    victim.kill();
    let killed = std::time::Instant::now();
    let _heir = stage.worker("heir", 20);
    eventually("all tasks run again", secs(60), || {
        stage.runs("started").len() == 20
            && stage.runs("started").values().filter(|runs| **runs == 2).count() == 10
    });
    println!("redelivered after {:?}", killed.elapsed());
    stage.report("kill -9 in the middle of long tasks", "started", 20);
}

#[test]
fn no_late_acked_task_is_lost_in_a_loop_of_kills() {
    let mut stage = Stage::new();
    // A task that was in five workers when they were killed is none the worse for it here.
    stage.set("CELERIAC_MAX_DELIVERIES", "0");
    let kills = kills(10);
    let count = (kills * 200).min(10_000);
    stage.send("faults.late", 0, count, 0.05);
    let worker = |number: usize| stage.worker(&format!("worker{number}"), SLOTS);
    let mut fleet: Vec<Process> = (0..3).map(worker).collect();
    for kill in 0..kills {
        let before = stage.runs("done").len();
        let enough = (before + count / kills / 2).min(count);
        eventually("the fleet works", REPAIRED, || stage.runs("done").len() >= enough);
        let victim = any_of(fleet.len());
        fleet[victim].kill();
        fleet[victim] = worker(kill + 3);
    }
    stage.await_runs("done", count, REPAIRED);
    stage.await_empty();
    stage.report("kill -9 of any worker, again and again", "done", count);
    let more: usize = stage.runs("done").values().map(|runs| runs - 1).sum();
    assert!(more <= kills * SLOTS, "{more} runs more than {kills} kills of {SLOTS} running tasks explain");
    assert!(fleet.iter_mut().all(|worker| worker.terminate(secs(20)).success()));
}

/// How many tasks a worker of the fleet runs at a time.
const SLOTS: usize = 10;

/// How often a worker is killed; `FAULTS_KILLS=1000` is the full size.
fn kills(usual: usize) -> usize {
    size("FAULTS_KILLS", rounds(usual))
}

fn any_of(count: usize) -> usize {
    RandomState::new().build_hasher().finish() as usize % count
}

#[test]
fn ten_thousand_tasks_in_flight_come_back() {
    let stage = Stage::new();
    let count = if rounds(1) > 1 { 10_000 } else { 3_000 };
    let mut victim = stage.worker("victim", count);
    stage.send("faults.late", 0, count, 3600.0);
    stage.await_runs("started", count, REPAIRED);
    victim.kill();
    let _heir = stage.worker("heir", count);
    eventually("all run again", REPAIRED + secs(30), || {
        stage.runs("started").values().filter(|runs| **runs == 2).count() == count
    });
    stage.report("kill -9 with thousands of tasks in flight", "started", count);
}

#[test]
fn messages_in_flight_when_their_worker_dies_come_back() {
    let stage = Stage::new();
    let count = rounds(6) * 2000;
    for batch in 0..rounds(6) {
        let mut victim = stage.worker(&format!("victim{batch}"), 1000);
        stage.send("faults.late", batch * 2000, 2000, 0.0);
        victim.kill();
    }
    let _heir = stage.worker("heir", 500);
    stage.await_runs("done", count, REPAIRED + secs(30));
    stage.await_empty();
    stage.report("kill -9 between fetch and bookkeeping", "done", count);
}

#[test]
fn no_chord_and_no_chain_hangs_when_workers_are_killed() {
    let stage = Stage::new();
    let (chords, chains) = (rounds(30), rounds(30));
    let client = stage.client();
    for number in 0..chords as i64 {
        let header = (0..5).map(|part| Signature::new("faults.late").arg(number * 5 + part).arg(0.02));
        stage.runtime.block_on(client.apply(chord(header, Signature::new("faults.sum")))).unwrap();
    }
    let mut last = Vec::new();
    for number in 0..chains as i64 {
        let first = Signature::new("faults.step").arg(number * 1000);
        let steps = std::iter::once(first).chain((0..5).map(|_| Signature::new("faults.step")));
        last.push(stage.runtime.block_on(client.apply(chain(steps))).unwrap());
    }
    for kill in 0..rounds(5) {
        let mut victim = stage.worker(&format!("victim{kill}"), 4);
        let before = stage.runs("done").len() + stage.runs("steps").len();
        let end = (before + 30).min((chords * 5 + chains * 6) / 2);
        eventually("the victim works", secs(20), || {
            stage.runs("done").len() + stage.runs("steps").len() >= end
        });
        victim.kill();
    }
    let _heir = stage.worker("heir", 50);
    stage.await_runs("sums", chords, REPAIRED + secs(30));
    for (number, result) in last.iter().enumerate() {
        let value: i64 = stage.runtime.block_on(result.get_as(REPAIRED)).unwrap();
        assert_eq!(value, number as i64 * 1000 + 6);
    }
    stage.await_empty();
    let sums: Vec<i64> =
        (0..chords as i64).map(|number| (0..5).map(|part| number * 5 + part).sum()).collect();
    assert_eq!(stage.runs("sums").into_keys().collect::<Vec<_>>(), sums);
    stage.report("chords under kill -9", "sums", chords);
}

#[test]
fn a_chord_whose_body_was_claimed_by_a_worker_that_died_is_completed_by_another() {
    let stage = Stage::new();
    let mut admin = stage.redis.connection();
    let user = ["ACL", "SETUSER", "victim", "on", ">secret", "~*", "&*", "+@all", "-zrange"];
    let _: String = redis::cmd(user[0]).arg(&user[1..]).query(&mut admin).unwrap();
    let header = (0..3).map(|number| Signature::new("faults.late").arg(number).arg(0.0));
    let chord = chord(header, Signature::new("faults.sum"));
    let result = stage.runtime.block_on(stage.client().apply(chord)).unwrap();
    let url = stage.redis.url().replace("redis://", "redis://victim:secret@");
    let mut victim = stage.worker_at(&url, "victim", 4);
    // It may not read the parts: so it stops between the claim and the body.
    eventually("the chord is claimed", secs(20), || stage.ask(&["ZCARD", "celeriac.chords"]) == 1);
    victim.kill();
    let _heir = stage.worker("heir", 4);
    let sum: i64 = stage.runtime.block_on(result.get_as(REPAIRED)).unwrap();
    assert_eq!(sum, 3);
    stage.await_empty();
    assert_eq!(stage.runs("sums").into_values().collect::<Vec<_>>(), [1]);
}
