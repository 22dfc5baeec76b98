//! Three beats, faults of all kinds, half of them within 30 ms after entries fall due: no run twice, none lost.
//!
//! `BEAT_FAULTS` (60; the long form is 1,000) and `BEAT_SEED` choose the faults; both are printed.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use compat_tests::{Process, Signal, secs};
use redis::Commands;
use serde_json::Value;

use crate::stage::{Stage, text};

/// Entries of one second and entries of two.
const ENTRIES: usize = 10;

/// The longest time without a run that a fault may cause.
const LONGEST_OUTAGE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    Kill,
    Terminate,
    /// Longer than the lock lasts.
    Stop,
    Cut,
    DeleteLock,
    Flush,
    Restart,
}

const FAULTS: [Fault; 7] =
    [Fault::Kill, Fault::Terminate, Fault::Stop, Fault::Cut, Fault::DeleteLock, Fault::Flush, Fault::Restart];

struct Trial {
    stage: Stage,
    entries: String,
    beats: Vec<Process>,
    seed: u64,
    /// Ids of runs that were received, by entry.
    received: HashMap<String, Vec<String>>,
    /// Runs that were recorded before the database was flushed.
    recorded: HashMap<String, u64>,
    outages: HashMap<Fault, Vec<Duration>>,
}

#[test]
fn no_run_is_sent_twice_and_none_is_lost_whoever_dies() {
    let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let faults = given("BEAT_FAULTS").unwrap_or(60);
    let seed = given("BEAT_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("BEAT_SEED={seed} BEAT_FAULTS={faults}");
    let mut trial = Trial::new(seed);
    for number in 0..faults {
        let fault = FAULTS[trial.below(FAULTS.len() as u64) as usize];
        trial.strike(fault, number % 2 == 0);
    }
    trial.check();
}

impl Trial {
    fn new(seed: u64) -> Self {
        let stage = Stage::new();
        let mut file = String::new();
        for number in 0..2 * ENTRIES {
            let every = 1 + number / ENTRIES;
            file += &format!(
                "[beat_schedule.e{number}]\ntask = 'proj.tick'\nschedule = {every}\nrelative = true\nargs = ['e{number}']\noptions = {{ queue = 'ticks' }}\n"
            );
        }
        let entries = text(&stage.write("schedule.toml", &file)).to_owned();
        let beats = (0..3).map(|_| stage.beat(&["--entries", &entries])).collect();
        let mut trial = Self {
            stage,
            entries,
            beats,
            seed,
            received: HashMap::new(),
            recorded: HashMap::new(),
            outages: HashMap::new(),
        };
        for beat in &mut trial.beats {
            beat.wait_for_line("beat starts", secs(20));
        }
        trial.await_runs(secs(20));
        trial
    }

    fn below(&mut self, bound: u64) -> u64 {
        // Knuth's generator for a 64-bit linear congruence.
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % bound
    }

    /// Brings a fault about, at any time or just after entries fell due, and waits until runs come again.
    fn strike(&mut self, fault: Fault, is_aimed: bool) {
        if is_aimed {
            let past = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_micros();
            let shift = self.below(30_000);
            std::thread::sleep(Duration::from_micros(1_000_000 - u64::from(past) + shift));
        } else {
            std::thread::sleep(Duration::from_millis(self.below(900)));
        }
        let leader = self.leader();
        let began = Instant::now();
        match fault {
            Fault::Kill => self.beats[leader].kill(),
            Fault::Terminate => self.beats[leader].signal(Signal::SIGTERM),
            Fault::Stop => self.beats[leader].signal(Signal::SIGSTOP),
            Fault::Cut => {
                redis::cmd("CLIENT")
                    .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
                    .exec(&mut self.redis())
                    .unwrap();
            }
            Fault::DeleteLock => self.redis().del::<_, ()>("redbeat::lock").unwrap(),
            Fault::Flush => self.flush(),
            Fault::Restart => {
                self.receive();
                self.stage.server.stop();
                self.stage.server.restart();
            }
        }
        self.receive();
        self.await_runs(LONGEST_OUTAGE);
        self.outages.entry(fault).or_default().push(began.elapsed());
        match fault {
            Fault::Stop => self.beats[leader].signal(Signal::SIGCONT),
            Fault::Kill | Fault::Terminate => {
                if fault == Fault::Terminate {
                    assert!(self.beats[leader].wait(secs(10)).success());
                }
                self.beats[leader] = self.stage.beat(&["--entries", &self.entries]);
                // Before that, a signal would end it as it ends any program.
                self.beats[leader].wait_for_line("beat starts", secs(20));
            }
            _ => {}
        }
        assert!(self.beats.iter_mut().all(Process::is_running), "a beat has ended after {fault:?}");
    }

    /// The place of the beat that leads; any, while there is none.
    fn leader(&self) -> usize {
        let node: Option<String> = self.redis().hget("redbeat::leader", "node").unwrap();
        let is_it = |beat: &Process| {
            node.as_ref().is_some_and(|node| node.contains(&format!("process {})", beat.id())))
        };
        self.beats.iter().position(is_it).unwrap_or(0)
    }

    fn redis(&self) -> redis::Connection {
        self.stage.server.connection()
    }

    /// Takes the messages that wait.
    fn receive(&mut self) -> usize {
        let texts: Vec<String> = redis::pipe()
            .atomic()
            .lrange("ticks", 0, -1)
            .del("ticks")
            .ignore()
            .query::<(Vec<String>,)>(&mut self.redis())
            .unwrap()
            .0;
        self.note(&texts);
        texts.len()
    }

    fn note(&mut self, texts: &[String]) {
        for text in texts {
            let message: Value = serde_json::from_str(text).unwrap();
            let entry =
                message["headers"]["argsrepr"].as_str().unwrap().split('\'').nth(1).unwrap().to_owned();
            let id = message["headers"]["id"].as_str().unwrap().to_owned();
            self.received.entry(entry).or_default().push(id);
        }
    }

    /// Empties the database, after what stands in it at that very moment is noted.
    fn flush(&mut self) {
        let mut step = redis::pipe();
        step.atomic().lrange("ticks", 0, -1);
        for number in 0..2 * ENTRIES {
            step.hget(format!("redbeat:e{number}"), "meta");
        }
        step.cmd("FLUSHALL").ignore();
        let replies: Vec<redis::Value> = step.query(&mut self.redis()).unwrap();
        let texts: Vec<String> = redis::from_redis_value(replies[0].clone()).unwrap();
        self.note(&texts);
        for (number, meta) in replies[1..].iter().enumerate() {
            let meta: Option<String> = redis::from_redis_value(meta.clone()).unwrap();
            *self.recorded.entry(format!("e{number}")).or_default() += runs(meta);
        }
    }

    fn await_runs(&mut self, deadline: Duration) {
        let began = Instant::now();
        while self.receive() == 0 {
            assert!(began.elapsed() < deadline, "no run within {deadline:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Compares what was received with what was recorded.
    fn check(mut self) {
        for beat in &mut self.beats {
            assert!(beat.terminate(secs(10)).success());
        }
        self.receive();
        let (mut total, mut twice) = (0, 0);
        for number in 0..2 * ENTRIES {
            let entry = format!("e{number}");
            let meta: Option<String> = self.redis().hget(format!("redbeat:{entry}"), "meta").unwrap();
            let recorded = self.recorded.get(&entry).copied().unwrap_or(0) + runs(meta);
            let ids = &self.received[&entry];
            total += ids.len();
            twice += ids.len() - ids.iter().collect::<HashSet<_>>().len();
            assert_eq!(ids.len() as u64, recorded, "runs of {entry}: received and recorded");
        }
        println!("{total} runs, {twice} of them twice");
        for (fault, outages) in &mut self.outages {
            outages.sort();
            let (median, most) = (outages[outages.len() / 2], outages[outages.len() - 1]);
            println!(
                "{fault:?}: {} times, runs again after {median:.2?} (median), {most:.2?} (most)",
                outages.len()
            );
        }
        assert_eq!(twice, 0);
    }
}

fn runs(meta: Option<String>) -> u64 {
    let meta: Value = meta.map(|meta| serde_json::from_str(&meta).unwrap()).unwrap_or_default();
    meta["total_run_count"].as_u64().unwrap_or(0)
}
