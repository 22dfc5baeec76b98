//! A day in miniature: tasks of every kind in numbers, and a worker killed every few seconds.
//!
//! `FAULTS_SOAK_TASKS=2000000` is the full size.

use std::time::{Duration, Instant};

use celeriac::canvas::{chord, group};
use celeriac::message::Signature;
use compat_tests::{eventually, secs, size};

use crate::stage::{REPAIRED, Stage};
use crate::table::{Outcome, record};

/// How many tasks are sent at a time, and of what they are.
const BATCH: usize = 1000;
const LATE: i64 = 600;
const EARLY: i64 = 100;
const RETRIED: i64 = 100;
const DELAYED: i64 = 100;
const CHORDS: i64 = 10;
const PARTS: i64 = 9;

const SLOTS: usize = 50;
const KILL_EVERY: Duration = secs(3);

#[test]
fn counts_add_up_and_memory_stays_flat_while_workers_are_killed_every_few_seconds() {
    let batches = size("FAULTS_SOAK_TASKS", 3 * BATCH).div_ceil(BATCH);
    let mut stage = Stage::new();
    stage.set("RESULT_EXPIRES", "60");
    let survivor = stage.worker("survivor", SLOTS);
    let mut victim = stage.worker("victim", SLOTS);
    let (start, mut killed_at, mut kills, mut sent) = (Instant::now(), Instant::now(), 0, 0);
    let mut memory = Vec::new();
    loop {
        if sent < batches && stage.ask(&["LLEN", "celery"]) < 3 * BATCH as i64 {
            send_batch(&stage, sent as i64);
            sent += 1;
        } else if sent == batches && stage.is_idle() {
            break;
        } else {
            std::thread::sleep(Duration::from_millis(50));
        }
        if killed_at.elapsed() > KILL_EVERY && sent < batches {
            victim.kill();
            victim = stage.worker("victim", SLOTS);
            (killed_at, kills) = (Instant::now(), kills + 1);
            memory.push(resident_kib(survivor.id()));
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    eventually("nothing is left", REPAIRED, || stage.held().is_empty());
    memory.push(resident_kib(survivor.id()));
    let (done, sums) = (stage.runs("done"), stage.runs("sums"));
    let per_batch = (LATE + EARLY + RETRIED + DELAYED + CHORDS * PARTS) as usize;
    let missing = (0..batches as i64).flat_map(numbers).filter(|number| !done.contains_key(number));
    let (cut, lost): (Vec<i64>, Vec<i64>) = missing.partition(|number| is_early(*number));
    let bodies = batches * CHORDS as usize;
    let repeated = done.values().chain(sums.values()).filter(|runs| **runs > 1).count();
    let tasks = batches * per_batch + bodies;
    println!(
        "{tasks} tasks in {seconds:.0} s, {kills} kills, {repeated} ran more than once, {} early-acked cut off, resident KiB of the survivor: {:?}",
        cut.len(),
        figures(&memory),
    );
    record("24 h in miniature", Outcome { tasks, lost: lost.len(), stuck: bodies - sums.len(), repeated });
    assert!(cut.len() <= kills * SLOTS, "{} early-acked tasks were cut off by {kills} kills", cut.len());
    let early = memory[memory.len() / 5];
    let last = memory[memory.len() - 1];
    assert!(last < early + early / 4 + 16 * 1024, "the survivor grew from {early} KiB to {last} KiB");
}

fn send_batch(stage: &Stage, batch: i64) {
    let all: Vec<i64> = numbers(batch).collect();
    let task = |name: &str, number: i64| Signature::new(name).arg(number);
    let mut parts = all.iter().copied();
    let mut next = |count: i64| parts.by_ref().take(count as usize).collect::<Vec<_>>();
    let late = next(LATE).into_iter().map(|number| task("faults.late", number).arg(0.002));
    let early = next(EARLY).into_iter().map(|number| task("faults.early", number).arg(0.002));
    let retried = next(RETRIED).into_iter().map(|number| task("faults.again", number));
    let delayed = next(DELAYED)
        .into_iter()
        .map(|number| task("faults.late", number).arg(0.0).countdown(secs(1 + number as u64 % 3)));
    let chords = (0..CHORDS).map(|_| {
        let header = next(PARTS).into_iter().map(|number| task("faults.late", number).arg(0.0));
        chord(header, Signature::new("faults.sum"))
    });
    let chords: Vec<Signature> = chords.collect();
    let plain = group(late.chain(early).chain(retried).chain(delayed));
    let client = stage.client();
    for signature in chords.into_iter().chain([plain]) {
        stage.runtime.block_on(client.apply(signature)).unwrap();
    }
}

/// The numbers of the tasks of a batch.
fn numbers(batch: i64) -> impl Iterator<Item = i64> {
    let first = batch * BATCH as i64;
    first..first + LATE + EARLY + RETRIED + DELAYED + CHORDS * PARTS
}

fn is_early(number: i64) -> bool {
    (LATE..LATE + EARLY).contains(&(number % BATCH as i64))
}

/// The resident memory of a process.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// First, last and every tenth part between.
fn figures(memory: &[u64]) -> Vec<u64> {
    (0..=10).map(|tenth| memory[(memory.len() - 1) * tenth / 10]).collect()
}
