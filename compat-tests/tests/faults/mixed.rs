//! Work of every kind in every kind of outage: no worker dies for good, so everything ends well, and nothing is repeated
//! but what a worker held that stood still for too long.

use std::time::Duration;

use compat_tests::{Process, RedisServer, Signal, eventually, secs};

use crate::mix::Mix;
use crate::stage::{Layout, Stage, at_once, rounds};

/// What happens to two workers and their broker in the middle of their work.
struct Outage {
    name: &'static str,
    /// How often a task may run again because of it.
    repeats: usize,
    happen: fn(&mut Stage, &[Process]),
}

const fn outage(name: &'static str, repeats: usize, happen: fn(&mut Stage, &[Process])) -> Outage {
    Outage { name, repeats, happen }
}

#[test]
fn work_of_every_kind_comes_through_every_outage() {
    let outages = [
        outage("redis killed and restarted (append-only file)", 0, |stage, _| {
            for _ in 0..rounds(2) {
                stage.redis.kill();
                stage.redis.restart();
                stage.await_more_runs(5);
            }
        }),
        outage("connections killed (CLIENT KILL)", 0, |stage, _| {
            for _ in 0..rounds(10) {
                stage.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
                std::thread::sleep(Duration::from_millis(100));
            }
        }),
        outage("redis stands still (SIGSTOP)", 0, |stage, _| {
            stage.redis.pause();
            std::thread::sleep(standstill());
            stage.redis.resume();
        }),
        outage("redis answers nobody (CLIENT PAUSE)", 0, |stage, _| {
            let pause = standstill().as_millis().to_string();
            stage.tell(&["CLIENT", "PAUSE", &pause, "ALL"]);
        }),
        outage("memory full (-OOM)", 0, |stage, workers| {
            stage.tell(&["CONFIG", "SET", "maxmemory", "1"]);
            await_refusal(workers, "OOM|memory is full");
            stage.tell(&["CONFIG", "SET", "maxmemory", "0"]);
        }),
        outage("disk full (-MISCONF)", 0, |stage, workers| {
            let disk = Disk::fill(stage);
            await_refusal(workers, "MISCONF");
            disk.empty(stage);
        }),
        outage("a worker stands still beyond the visibility timeout (SIGSTOP)", 1, |stage, workers| {
            workers[0].signal(Signal::SIGSTOP);
            // Only the other one is left among those that fetch as soon as everything has been taken from it.
            let is_alone = || stage.ask(&["ZCARD", "celeriac.inflight"]) == 1;
            eventually("what it held has come back", secs(60), || is_alone() && stage.held().is_empty());
            workers[0].signal(Signal::SIGCONT);
        }),
    ];
    at_once(
        outages.into_iter().flat_map(|outage| {
            Layout::ALL.map(|layout| (layout, outage.name, outage.repeats, outage.happen))
        }),
        |(layout, name, repeats, happen)| {
            let mut stage = Stage::on(RedisServer::options().append_only()).with(layout);
            let mix = Mix::send(&stage);
            let workers = [stage.worker("one", 4), stage.worker("two", 4)];
            stage.await_more_runs(10);
            happen(&mut stage, &workers);
            mix.verify(&stage, &format!("{name}, {layout}"), repeats);
        },
    );
}

/// How long a server says nothing: longer than any deadline at full size.
fn standstill() -> Duration {
    if rounds(1) > 1 { secs(30) } else { secs(7) }
}

/// Waits until each worker has said that the server refuses its commands.
#[track_caller]
fn await_refusal(workers: &[Process], code: &str) {
    for worker in workers {
        eventually(code, secs(30), || !worker.lines_with(code).is_empty());
    }
}

/// A disk on which redis cannot save, so that it refuses to be written to.
struct Disk {
    in_the_way: std::path::PathBuf,
}

impl Disk {
    fn fill(stage: &Stage) -> Self {
        let (_, folder): (String, String) =
            redis::cmd("CONFIG").arg("GET").arg("dir").query(&mut stage.redis.connection()).unwrap();
        let in_the_way = std::path::Path::new(&folder).join("dump.rdb");
        std::fs::create_dir(&in_the_way).unwrap();
        stage.tell(&["CONFIG", "SET", "save", "3600 1000000"]);
        stage.tell(&["BGSAVE"]);
        eventually("a save fails", secs(20), || stage.info("rdb_last_bgsave_status:err"));
        Self { in_the_way }
    }

    fn empty(self, stage: &Stage) {
        std::fs::remove_dir(self.in_the_way).unwrap();
        stage.tell(&["BGSAVE"]);
        eventually("a save succeeds", secs(20), || stage.info("rdb_last_bgsave_status:ok"));
    }
}
