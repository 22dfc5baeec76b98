//! What a worker costs the broker that has nothing to do.

use std::time::{Duration, Instant};

use crate::stage::Stage;

impl Stage {
    /// How many commands the broker has carried out, without those that ask for this.
    fn commands(&self) -> u64 {
        let mut info = redis::cmd("INFO");
        let text: String = info.arg("commandstats").query(&mut self.redis.connection()).unwrap();
        let calls = |line: &str| {
            let (name, numbers) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let calls = numbers.strip_prefix("calls=")?.split(',').next()?.parse::<u64>().ok()?;
            (!matches!(name, "info" | "client|setinfo" | "hello" | "select")).then_some(calls)
        };
        text.lines().filter_map(calls).sum()
    }
}

#[test]
fn an_idle_worker_costs_fewer_than_ten_commands_a_second() {
    let mut stage = Stage::new();
    stage.set("BROKER_TRANSPORT_OPTIONS", r#"{"visibility_timeout": 3600}"#);
    stage.set("TASK_QUEUES", r#"["celery", "second", "third"]"#);
    let _worker = stage.worker("idle", 4);
    stage.send("faults.late", 0, 10, 0.0);
    stage.await_runs("done", 10, Duration::from_secs(20));
    let (before, begin) = (stage.commands(), Instant::now());
    // The measure is a rate, so that time has to pass.
    std::thread::sleep(Duration::from_secs(10));
    let rate = (stage.commands() - before) as f64 / begin.elapsed().as_secs_f64();
    println!("an idle worker with three queues: {rate:.1} commands a second");
    assert!(rate < 10.0, "{rate} commands a second");
}
