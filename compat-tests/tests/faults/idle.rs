//! What a worker costs the broker that has nothing to do.

use celeriac::canvas::group;
use celeriac::message::Signature;
use compat_tests::eventually;

use crate::stage::{REPAIRED, Stage};

/// How often a worker renews its leases, in seconds.
const RENEWED_EVERY: u64 = 5;

impl Stage {
    /// How many commands of each name the broker has carried out, without those that ask for this.
    fn commands(&self) -> Vec<(String, u64)> {
        let mut info = redis::cmd("INFO");
        let text: String = info.arg("commandstats").query(&mut self.redis.connection()).unwrap();
        let calls = |line: &str| {
            let (name, numbers) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let calls = numbers.strip_prefix("calls=")?.split(',').next()?.parse::<u64>().ok()?;
            (!matches!(name, "info" | "client|setinfo" | "hello" | "select"))
                .then(|| (name.to_owned(), calls))
        };
        text.lines().filter_map(calls).collect()
    }

    /// How often a command was carried out.
    fn calls(&self, command: &str) -> u64 {
        self.commands().into_iter().find(|(name, _)| name == command).map_or(0, |(_, calls)| calls)
    }

    /// The commands between some renewals of the leases, for each second; the worker's renewals are the clock.
    /// A renewal is one `ZADD` for the worker, and one more if it holds messages, however many.
    fn rate(&self, zadds: u64) -> f64 {
        let await_more = |count: u64| {
            let before = self.calls("zadd");
            eventually("leases are renewed", REPAIRED, || self.calls("zadd") >= before + count * zadds);
        };
        await_more(1);
        let before = self.commands();
        await_more(3);
        let mut more = 0;
        for (name, calls) in self.commands() {
            let earlier = before.iter().find(|(known, _)| *known == name).map_or(0, |(_, calls)| *calls);
            println!("{name}: {}", calls - earlier);
            more += calls - earlier;
        }
        more as f64 / (3 * RENEWED_EVERY) as f64
    }
}

#[test]
fn an_idle_worker_costs_fewer_than_ten_commands_a_second() {
    let mut stage = Stage::new();
    stage.set("BROKER_TRANSPORT_OPTIONS", r#"{"visibility_timeout": 3600}"#);
    stage.set("TASK_QUEUES", r#"["celery", "second", "third"]"#);
    let _worker = stage.worker("idle", 4);
    stage.send("faults.late", 0, 10, 0.0);
    stage.await_runs("done", 10, REPAIRED);
    stage.await_empty();
    let rate = stage.rate(1);
    println!("an idle worker with three queues: {rate:.1} commands a second");
    assert!(rate < 10.0, "{rate} commands a second");
}

#[test]
fn neither_many_queues_nor_etas_make_an_idle_worker_costly() {
    let mut stage = Stage::new();
    stage.set("BROKER_TRANSPORT_OPTIONS", r#"{"visibility_timeout": 3600}"#);
    stage.set("TASK_QUEUES", r#"["celery", "q2", "q3", "q4", "q5", "q6", "q7", "q8"]"#);
    stage.set("CELERIAC_MAX_SCHEDULED", "100");
    let _worker = stage.worker("idle", 4);
    let queues = ["celery", "q2", "q3", "q4", "q5", "q6", "q7", "q8"];
    let later = (0..200).map(|number| {
        let task = Signature::new("faults.late").arg(number).arg(0.0);
        task.option("countdown", 3600).option("queue", queues[number as usize % queues.len()])
    });
    stage.runtime.block_on(stage.client().apply(group(later))).unwrap();
    eventually("all wait for their eta", REPAIRED, || stage.ask(&["HLEN", "unacked"]) == 200);
    let rate = stage.rate(2);
    println!(
        "an idle worker with eight queues, 100 held etas and 100 parked ones: {rate:.1} commands a second"
    );
    assert!(rate < 10.0, "{rate} commands a second");
}
