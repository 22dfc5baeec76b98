//! What the program hears of its tasks.

use compat_tests::secs;

use crate::bench::Bench;

#[test]
fn hooks_are_called_around_each_run_and_with_its_outcome() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 1");
    bench.script(
        r#"
outcome(call("late", task_id="good"))
outcome(call("fail", "no", task_id="bad"))
outcome(call("retry", task_id="again"))
print("null")"#,
    );
    assert!(worker.terminate(secs(20)).success());
    let heard: Vec<String> = worker
        .lines_with("hook: ")
        .iter()
        .filter_map(|line| Some(line.split_once("hook: ")?.1.to_owned()))
        .collect();
    assert_eq!(
        heard,
        [
            "worker_ready",
            "task_prerun good",
            "task_success good Int(1)",
            "task_postrun good",
            "task_prerun bad",
            "task_failure bad ValueError('no')",
            "task_postrun bad",
            "task_prerun again",
            "task_retry again",
            "task_postrun again",
            "task_prerun again",
            "task_success again Int(1)",
            "task_postrun again",
            "worker_shutdown",
        ]
    );
}
