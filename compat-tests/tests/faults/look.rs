//! What can be seen of a stage: the runs of its record, and what is in the broker.

use std::collections::BTreeMap;
use std::time::Duration;

use celeriac::broker::DeadLetter;
use compat_tests::eventually;

use crate::stage::{REPAIRED, Stage};
use crate::table::{Outcome, record};

impl Stage {
    /// How often each number is in a list of the record.
    pub(crate) fn runs(&self, list: &str) -> BTreeMap<i64, usize> {
        let all: Vec<i64> =
            redis::cmd("LRANGE").arg(list).arg(0).arg(-1).query(&mut self.record.connection()).unwrap();
        let mut runs = BTreeMap::new();
        all.into_iter().for_each(|number| *runs.entry(number).or_insert(0) += 1);
        runs
    }

    /// Waits until the record has `count` different numbers in that list.
    #[track_caller]
    pub(crate) fn await_runs(&self, list: &str, count: usize, deadline: Duration) {
        eventually(&format!("{count} tasks in {list}"), deadline, || match self.runs(list).len() {
            length if length >= count => Ok(()),
            length => {
                let dead = self.ask(&["LLEN", "celeriac.dead"]);
                Err(format!("{length} of {count}; dead letters: {dead}; held: {}", self.held()))
            }
        });
    }

    /// Waits until the broker holds nothing that is to be run.
    #[track_caller]
    pub(crate) fn await_empty(&self) {
        eventually("nothing is left in the broker", REPAIRED, || match self.held() {
            held if held.is_empty() => Ok(()),
            held => Err(held),
        });
    }

    /// What the broker holds for running: queue, `unacked`, `unacked_index`, in-flight lists, chords.
    pub(crate) fn held(&self) -> String {
        let mut connection = self.redis.connection();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
        let is_work = |key: &&String| {
            let in_flight = key.starts_with("celeriac.inflight.") && !key.ends_with(".committed");
            let chord = key.starts_with("celeriac.chords");
            in_flight
                || chord
                || key.starts_with("celery\u{6}")
                || key.starts_with("celeriac.deliveries")
                || ["celery", "unacked", "unacked_index"].contains(&key.as_str())
        };
        let mut held: Vec<String> = keys.iter().filter(is_work).cloned().collect();
        held.sort();
        held.join(" ")
    }

    /// How many unacknowledged messages are older than the visibility timeout, in seconds.
    pub(crate) fn overdue(&self, visibility_timeout: i64) -> i64 {
        let mut connection = self.redis.connection();
        let (now, _): (i64, i64) = redis::cmd("TIME").query(&mut connection).unwrap();
        let mut count = redis::cmd("ZCOUNT");
        count.arg("unacked_index").arg("-inf").arg(now - visibility_timeout - 1);
        count.query(&mut connection).unwrap()
    }

    /// Whether nothing waits, is held, or is to be completed.
    pub(crate) fn is_idle(&self) -> bool {
        self.ask(&["EXISTS", "celery", "unacked", "unacked_index", "celeriac.chords"]) == 0
    }

    /// Waits until that many more tasks have come to their end, or all have.
    #[track_caller]
    pub(crate) fn await_more_runs(&self, more: usize) {
        let ended = || ["done", "steps", "sums"].map(|list| self.length(list)).into_iter().sum::<usize>();
        let before = ended();
        eventually("more tasks are done", REPAIRED, || ended() >= before + more || self.is_idle());
    }

    fn length(&self, list: &str) -> usize {
        redis::cmd("LLEN").arg(list).query(&mut self.record.connection()).unwrap()
    }

    /// Whether the broker says that of itself.
    pub(crate) fn info(&self, line: &str) -> bool {
        let info: String = redis::cmd("INFO").query(&mut self.redis.connection()).unwrap();
        info.lines().any(|found| found == line)
    }

    /// Has the broker carry out a command.
    pub(crate) fn tell(&self, command: &[&str]) {
        let _: redis::Value =
            redis::cmd(command[0]).arg(&command[1..]).query(&mut self.redis.connection()).unwrap();
    }

    /// One integer that the broker answers.
    pub(crate) fn ask(&self, command: &[&str]) -> i64 {
        let mut ask = redis::cmd(command[0]);
        command[1..].iter().for_each(|argument| {
            ask.arg(argument);
        });
        ask.query(&mut self.redis.connection()).unwrap()
    }

    /// One integer that the database of the results answers.
    pub(crate) fn ask_results(&self, command: &[&str]) -> i64 {
        let client = redis::Client::open(self.redis.url_of_db(self.results)).unwrap();
        redis::cmd(command[0]).arg(&command[1..]).query(&mut client.get_connection().unwrap()).unwrap()
    }

    /// A number that the broker says of itself.
    pub(crate) fn figure(&self, name: &str) -> i64 {
        let info: String = redis::cmd("INFO").query(&mut self.redis.connection()).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.parse().unwrap()
    }

    /// The keys that do not end by themselves, in the databases of broker and results.
    pub(crate) fn keys_for_ever(&self) -> Vec<String> {
        let mut found = Vec::new();
        for db in 0..=self.results {
            let client = redis::Client::open(self.redis.url_of_db(db)).unwrap();
            let mut connection = client.get_connection().unwrap();
            let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
            found.extend(keys.into_iter().filter(|key| {
                let ttl: i64 = redis::cmd("TTL").arg(key).query(&mut connection).unwrap();
                ttl == -1
            }));
        }
        found
    }

    /// The ids of the tasks among the dead letters.
    pub(crate) fn dead(&self) -> Vec<String> {
        let mut list = redis::cmd("LRANGE");
        list.arg("celeriac.dead").arg(0).arg(-1);
        let letters: Vec<String> = list.query(&mut self.redis.connection()).unwrap();
        let id = |letter: &String| serde_json::from_str::<DeadLetter>(letter).unwrap().task().0;
        letters.iter().filter_map(id).collect()
    }

    /// Empties the record.
    pub(crate) fn forget_runs(&self) {
        let _: String = redis::cmd("FLUSHALL").query(&mut self.record.connection()).unwrap();
    }

    /// Records what a scenario has counted of tasks that are numbered in a list of the record.
    #[track_caller]
    pub(crate) fn report(&self, scenario: &str, list: &str, tasks: usize) {
        let runs = self.runs(list);
        let repeated = runs.values().filter(|count| **count > 1).count();
        // What was only started goes on when the scenario ends.
        let stuck = usize::from(list != "started" && !self.held().is_empty());
        record(scenario, Outcome { tasks, lost: tasks - runs.len(), stuck, repeated });
    }
}
