//! Three beats, faults of all kinds, half of them within 30 ms after entries fall due: no run twice, none lost.
//!
//! `BEAT_FAULTS` (60; the long form is 1,000, in trials of 250 side by side) and `BEAT_SEED` choose the faults; both are
//! printed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use compat_tests::{Process, Signal, secs};
use redis::Commands;
use serde_json::Value;

use crate::stage::{Stage, text};

/// Entries of one second and entries of two.
const ENTRIES: usize = 10;

/// The longest time without a run that a fault may cause.
const LONGEST_OUTAGE: Duration = Duration::from_secs(15);

/// Faults of one trial; more are shared out to trials of their own.
const FAULTS_A_TRIAL: u64 = 250;

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// The distances by which clocks jump.
const JUMPS: [&str; 6] = ["+1h", "-1h", "+2d", "-2d", "+5s", "-5s"];

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
    /// The clock of the beat that leads, or every clock, goes wrong and right again.
    Clock,
}

const FAULTS: [Fault; 8] = [
    Fault::Kill,
    Fault::Terminate,
    Fault::Stop,
    Fault::Cut,
    Fault::DeleteLock,
    Fault::Flush,
    Fault::Restart,
    Fault::Clock,
];

/// The counts of an entry in the schedule.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    /// The second of its last run.
    last: i64,
    runs: u64,
    missed: u64,
}

struct Trial {
    stage: Stage,
    entries: String,
    beats: Vec<Process>,
    /// Where each beat has its clock from.
    clocks: Vec<PathBuf>,
    seed: u64,
    /// The counts in the schedule since no clock has jumped and nothing was flushed.
    readings: HashMap<String, Reading>,
    /// Times at which an entry was due that are neither runs nor counted as missed.
    lost: u64,
    missed: u64,
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
    let shares = (0..faults.div_ceil(FAULTS_A_TRIAL))
        .map(|trial| (seed.wrapping_add(trial), FAULTS_A_TRIAL.min(faults - trial * FAULTS_A_TRIAL)));
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let trials: Vec<_> =
            shares.map(|(seed, faults)| scope.spawn(move || Trial::run(seed, faults))).collect();
        trials.into_iter().map(|trial| trial.join().unwrap()).collect()
    });
    let mut sum = Outcome::default();
    for outcome in outcomes {
        sum.runs += outcome.runs;
        sum.twice += outcome.twice;
        sum.lost += outcome.lost;
        sum.missed += outcome.missed;
        for (fault, outages) in outcome.outages {
            sum.outages.entry(fault).or_default().extend(outages);
        }
    }
    sum.report();
    assert_eq!((sum.twice, sum.lost), (0, 0), "runs twice, and lost");
}

#[derive(Default)]
struct Outcome {
    runs: usize,
    twice: usize,
    lost: u64,
    /// Runs that were due while no beat could send and were told of as missed.
    missed: u64,
    outages: HashMap<Fault, Vec<Duration>>,
}

impl Outcome {
    fn report(&self) {
        let Self { runs, twice, lost, missed, .. } = self;
        println!(
            "{runs} runs, {twice} of them twice, {lost} lost; {missed} of entries of one second counted as missed"
        );
        for fault in FAULTS {
            let Some(outages) = self.outages.get(&fault) else { continue };
            let mut outages = outages.clone();
            outages.sort();
            let (median, most) = (outages[outages.len() / 2], outages[outages.len() - 1]);
            let times = outages.len();
            println!("{fault:?}: {times} times, runs again after {median:.2?} (median), {most:.2?} (most)");
        }
    }
}

impl Trial {
    fn run(seed: u64, faults: u64) -> Outcome {
        let mut trial = Self::new(seed);
        for number in 0..faults {
            let fault = FAULTS[trial.below(FAULTS.len() as u64) as usize];
            trial.strike(fault, number % 2 == 0);
        }
        trial.finish()
    }

    fn new(seed: u64) -> Self {
        assert!(Path::new(LIBRARY).exists(), "{LIBRARY} is missing; hint: ./scripts/setup test");
        let stage = Stage::new();
        let mut file = String::new();
        for number in 0..2 * ENTRIES {
            let every = 1 + number / ENTRIES;
            file += &format!(
                "[beat_schedule.e{number}]\ntask = 'proj.tick'\nschedule = {every}\nrelative = true\nargs = ['e{number}']\noptions = {{ queue = 'ticks' }}\n"
            );
        }
        let entries = text(&stage.write("schedule.toml", &file)).to_owned();
        let clocks = (0..3).map(|beat| stage.write(&format!("clock-{beat}"), "+0")).collect();
        let mut trial = Self {
            stage,
            entries,
            beats: Vec::new(),
            clocks,
            seed,
            readings: HashMap::new(),
            lost: 0,
            missed: 0,
            received: HashMap::new(),
            recorded: HashMap::new(),
            outages: HashMap::new(),
        };
        trial.beats = (0..3).map(|beat| trial.start(beat)).collect();
        for beat in &mut trial.beats {
            beat.wait_for_line("beat starts", secs(20));
        }
        trial.await_every_entry();
        trial.begin_account();
        trial
    }

    fn start(&self, beat: usize) -> Process {
        let mut command = self.stage.command(&["--entries", &self.entries]);
        command.env("LD_PRELOAD", LIBRARY).env("FAKETIME_TIMESTAMP_FILE", &self.clocks[beat]);
        command.env("FAKETIME_CACHE_DURATION", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Process::spawn("celeriac beat", &command)
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
            Fault::Clock => self.jump(leader),
        }
        self.receive();
        self.await_runs();
        self.outages.entry(fault).or_default().push(began.elapsed());
        match fault {
            Fault::Flush => {
                self.await_every_entry();
                self.begin_account();
            }
            Fault::Clock => {
                // No entry may be silent for longer than its interval.
                self.await_every_entry();
                self.clocks.iter().for_each(|clock| std::fs::write(clock, "+0").unwrap());
                // As long as the library believes what it has read.
                std::thread::sleep(Duration::from_secs(1));
                self.receive();
                self.await_every_entry();
                self.begin_account();
            }
            Fault::Stop => self.beats[leader].signal(Signal::SIGCONT),
            Fault::Kill | Fault::Terminate => {
                if fault == Fault::Terminate {
                    assert!(self.beats[leader].wait(secs(10)).success());
                }
                self.beats[leader] = self.start(leader);
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

    /// Sets the clock of the beat that leads, or every clock.
    fn jump(&mut self, leader: usize) {
        let readings = self.read(false);
        self.account(&readings);
        let jump = JUMPS[self.below(JUMPS.len() as u64) as usize];
        let all = self.below(2) == 0;
        for (beat, clock) in self.clocks.iter().enumerate() {
            if all || beat == leader {
                std::fs::write(clock, jump).unwrap();
            }
        }
        // As long as the library believes what it has read.
        std::thread::sleep(Duration::from_secs(1));
    }

    /// Empties the database, after what stands in it at that very moment is noted.
    fn flush(&mut self) {
        let readings = self.read(true);
        self.account(&readings);
        for (entry, reading) in readings {
            *self.recorded.entry(entry).or_default() += reading.runs;
        }
    }

    /// Takes what stands in the schedule, at one moment, and empties the database in the same.
    fn read(&mut self, flushes: bool) -> HashMap<String, Reading> {
        let mut step = redis::pipe();
        step.atomic().lrange("ticks", 0, -1).del("ticks").ignore();
        for number in 0..2 * ENTRIES {
            let key = format!("redbeat:e{number}");
            step.hget(&key, "meta").hget("redbeat::history", &key);
        }
        if flushes {
            step.cmd("FLUSHALL").ignore();
        }
        let replies: Vec<redis::Value> = step.query(&mut self.redis()).unwrap();
        let mut replies = replies.into_iter();
        let texts: Vec<String> = redis::from_redis_value(replies.next().unwrap()).unwrap();
        self.note(&texts);
        let mut json = move || -> Value {
            let text: Option<String> = redis::from_redis_value(replies.next().unwrap()).unwrap();
            text.map(|text| serde_json::from_str(&text).unwrap()).unwrap_or_default()
        };
        (0..2 * ENTRIES).map(|number| (format!("e{number}"), Reading::of(&json(), &json()))).collect()
    }

    /// Begins to hold runs against the time that passes.
    fn begin_account(&mut self) {
        self.readings = self.read(false);
    }

    /// Each second since the account was begun is a run of each entry of one second, or was counted as missed.
    fn account(&mut self, now: &HashMap<String, Reading>) {
        for number in 0..ENTRIES {
            let entry = format!("e{number}");
            let (before, now) = (self.readings[&entry], now[&entry]);
            let accounted = now.runs + now.missed - before.runs - before.missed;
            self.missed += now.missed - before.missed;
            let passed = now.last.abs_diff(before.last);
            if passed != accounted {
                eprintln!("{entry}: {passed} s passed, {accounted} accounted for: {before:?} {now:?}");
                self.lost += passed.abs_diff(accounted);
            }
        }
    }

    fn await_runs(&mut self) {
        let began = Instant::now();
        while self.receive() == 0 {
            assert!(began.elapsed() < LONGEST_OUTAGE, "no run within {LONGEST_OUTAGE:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until each entry has run once more.
    fn await_every_entry(&mut self) {
        let count = |trial: &Self, number| trial.received.get(&format!("e{number}")).map_or(0, Vec::len);
        let before: Vec<usize> = (0..2 * ENTRIES).map(|number| count(self, number)).collect();
        let began = Instant::now();
        loop {
            self.receive();
            let silent = (0..2 * ENTRIES).find(|number| count(self, *number) == before[*number]);
            let Some(silent) = silent else { return };
            assert!(began.elapsed() < LONGEST_OUTAGE, "no run of e{silent} within {LONGEST_OUTAGE:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Compares what was received with what was recorded.
    fn finish(mut self) -> Outcome {
        for beat in &mut self.beats {
            assert!(beat.terminate(secs(10)).success());
        }
        let readings = self.read(false);
        self.account(&readings);
        let mut outcome =
            Outcome { lost: self.lost, missed: self.missed, outages: self.outages, ..Outcome::default() };
        for (entry, reading) in readings {
            let recorded = self.recorded.get(&entry).copied().unwrap_or(0) + reading.runs;
            let ids = &self.received[&entry];
            outcome.runs += ids.len();
            outcome.twice += ids.len() - ids.iter().collect::<HashSet<_>>().len();
            if ids.len() as u64 != recorded {
                eprintln!("{entry}: {} runs received, {recorded} recorded", ids.len());
                outcome.lost += recorded.abs_diff(ids.len() as u64);
            }
        }
        outcome
    }
}

impl Reading {
    fn of(meta: &Value, history: &Value) -> Self {
        let at = &meta["last_run_at"];
        let part = |name: &str| at[name].as_i64().unwrap_or(0) as u32;
        let date = chrono::NaiveDate::from_ymd_opt(part("year") as i32, part("month"), part("day"));
        let time = date.and_then(|date| date.and_hms_opt(part("hour"), part("minute"), part("second")));
        Self {
            last: time.map_or(0, |time| time.and_utc().timestamp()),
            runs: meta["total_run_count"].as_u64().unwrap_or(0),
            missed: history["missed"].as_u64().unwrap_or(0),
        }
    }
}
