//! What a worker says while its broker is away.

use std::process::Command;

use compat_tests::{Process, RedisServer, binary, secs};

#[test]
fn it_says_each_attempt_with_the_time_of_the_next_and_is_ready_only_when_it_is() {
    let mut redis = RedisServer::start();
    redis.kill();
    let mut command = Command::new(binary("readme-worker"));
    command.args(["-l", "INFO", "-b", &redis.url()]);
    let mut worker = Process::spawn("readme-worker", &command);
    worker.wait_for_lines(
        r"Cannot connect to broker: .*Trying again in [0-9.]+ s \(attempt 3\)",
        1,
        secs(60),
    );
    let attempts = worker.lines_with("Trying again in").len();
    assert!((3..=4).contains(&attempts), "one line for each attempt, not {attempts}");
    assert_eq!(worker.lines_with(" ready"), [""; 0]);
    let others: Vec<String> = worker.lines_with("Connection refused");
    let others: Vec<&String> = others.iter().filter(|line| !line.contains("Trying again in")).collect();
    let mut kinds: Vec<&str> = others
        .iter()
        .map(|line| line.split("] ").nth(1).unwrap_or(line).split(':').next().unwrap())
        .collect();
    let count = kinds.len();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), count, "nothing else is said twice: {others:#?}");
    redis.restart();
    worker.wait_for_line(" ready", secs(60));
    assert!(worker.terminate(secs(20)).success());
}
