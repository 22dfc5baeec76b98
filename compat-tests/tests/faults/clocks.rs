//! A worker whose clock jumps (libfaketime): leases go by the server's time and by clocks that only go forward.

use std::path::Path;
use std::process::Command;

use celeriac::canvas::{chain, chord};
use celeriac::message::Signature;
use compat_tests::{Process, run, secs};

use crate::stage::{REPAIRED, Stage};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

#[test]
fn a_worker_whose_clock_jumps_by_days_loses_and_repeats_nothing() {
    let stage = Stage::new();
    let clock = stage.path("clock");
    let jump = |offset: &str| std::fs::write(&clock, offset).unwrap();
    jump("+0");
    let mut jumping = start(&stage, &clock);
    // Longer than the visibility timeout: a lease that went by the worker's clock would end, or never end.
    stage.send("faults.late", 0, 40, 7.0);
    let header = (100..103).map(|number| Signature::new("faults.late").arg(number).arg(7.0));
    let chord = chord(header, Signature::new("faults.sum"));
    let chain = chain([Signature::new("faults.step").arg(0), Signature::new("faults.step")]);
    let client = stage.client();
    let results = [chord, chain].map(|signature| stage.runtime.block_on(client.apply(signature)).unwrap());
    // By now the other holds them, and what it loses this one would start again.
    stage.await_runs("started", 10, REPAIRED);
    let _steady = stage.worker("steady", 10);
    for (offset, ended) in [("+2d", 10), ("-2d", 30)] {
        stage.await_runs("started", ended, REPAIRED);
        jump(offset);
        stage.await_runs("done", ended, REPAIRED);
        jumping.wait_for_line(&format!("^.?{}.* succeeded", date(offset)), secs(20));
    }
    let values = results.map(|result| stage.runtime.block_on(result.get_as::<i64>(REPAIRED)).unwrap());
    assert_eq!(values, [303, 2]);
    stage.await_runs("done", 43, REPAIRED);
    stage.await_empty();
    stage.report("a worker's clock jumps by two days, tasks of 7 s", "done", 43);
    assert!(stage.runs("started").values().all(|runs| *runs == 1), "{:?}", stage.runs("started"));
}

/// A worker that takes the time from a file.
fn start(stage: &Stage, clock: &Path) -> Process {
    assert!(Path::new(LIBRARY).exists(), "{LIBRARY} is missing; hint: ./scripts/setup test");
    let mut command = stage.command(&stage.redis.url(), "jumping", 10);
    command.env("LD_PRELOAD", LIBRARY).env("FAKETIME_TIMESTAMP_FILE", clock);
    command.env("FAKETIME_CACHE_DURATION", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    stage.spawn(&command, "jumping")
}

/// The date at that offset from now.
fn date(offset: &str) -> String {
    let days = offset.trim_end_matches('d');
    run(Command::new("date").args(["--utc", "+%F", "-d", &format!("{days} days")]), secs(5)).success()
}
