//! One worker for very many queues.

use celeriac::message::Signature;
use compat_tests::secs;

use crate::stage::{REPAIRED, Stage};

#[test]
fn a_worker_of_many_queues_asks_for_those_that_changed() {
    const QUEUES: usize = 400;
    const TASKS: usize = 20;
    let stage = Stage::new();
    let queue = |number: usize| format!("q{}", number % QUEUES);
    let names: Vec<String> = (0..QUEUES).map(queue).collect();
    let mut command = stage.command(&stage.redis.url(), "many", 2);
    command.args(["-Q", &names.join(",")]);
    let mut worker = stage.spawn(&command, "many");
    let client = stage.client();
    let call = |number: usize| {
        let task =
            Signature::new("faults.late").arg(number as i64).arg(0.0).option("queue", queue(number * 7));
        let result = stage.runtime.block_on(async { client.apply(task).await?.get(REPAIRED).await });
        assert_eq!(result.unwrap().as_i64(), Some(number as i64));
    };
    call(0);
    let lengths = || {
        let stats: String =
            redis::cmd("INFO").arg("commandstats").query(&mut stage.redis.connection()).unwrap();
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_llen:calls="));
        calls.unwrap().split(',').next().unwrap().parse::<usize>().unwrap()
    };
    let before = lengths();
    (1..=TASKS).for_each(call);
    // Each queue has four lists: asking for all of them at each change takes tens of thousands.
    let asked = lengths() - before;
    assert!(asked < TASKS * QUEUES, "{asked} lengths were asked for {TASKS} tasks");
    // What a task sends to another of its worker's queues is found, too, though nobody announces it.
    let step = |queue: &str| Signature::new("faults.step").arg(1_i64).option("queue", queue);
    let steps = celeriac::canvas::chain([step("q3"), Signature::new("faults.step").option("queue", "q300")]);
    let sum = stage.runtime.block_on(async { client.apply(steps).await?.get(REPAIRED).await });
    assert_eq!(sum.unwrap().as_i64(), Some(3));
    assert!(worker.terminate(secs(30)).success());
}
