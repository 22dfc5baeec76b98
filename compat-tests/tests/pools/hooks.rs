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
outcome(call("unheard_of"))
outcome(call("late", task_id="expired", expires=-1))
outcome(call("fail", "no", task_id="bad"))
outcome(call("retry", task_id="again"))
print("null")"#,
    );
    assert!(worker.terminate(secs(20)).success());
    let mut heard: Vec<String> = worker
        .lines_with("hook: (worker|task)_[^p]|hook: task_p")
        .iter()
        .filter_map(|line| Some(line.split_once("hook: ")?.1.to_owned()))
        .collect();
    // The message of a retry may arrive before the run that sent it has ended.
    let arrivals = |heard: &[String]| heard.iter().filter(|hook| *hook == "task_received again").count();
    assert_eq!(arrivals(&heard), 2, "{heard:?}");
    let second_run = heard.iter().rposition(|hook| hook == "task_prerun again").unwrap();
    assert_eq!(arrivals(&heard[..second_run]), 2, "a run begins after its message has arrived: {heard:?}");
    let again = heard.iter().rposition(|hook| hook == "task_received again").unwrap();
    heard.remove(again);
    assert_eq!(
        heard,
        [
            "worker_init",
            "worker_ready",
            "task_received good",
            "task_prerun good",
            "task_success good Int(1)",
            "task_postrun good",
            "task_unknown pools.unheard_of",
            "task_revoked expired true",
            "task_received bad",
            "task_prerun bad",
            "task_failure bad ValueError('no')",
            "task_postrun bad",
            "task_received again",
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

#[test]
fn layers_see_each_run_its_outcome_and_the_states_also_in_child_processes() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 1");
    let found = bench.script(
        r#"print(json.dumps([outcome(call("late")), outcome(call("panics_here")), outcome(call("made_in")), outcome(call("pid"))]))"#,
    );
    assert_eq!((&found[0], &found[1][1]), (&1.into(), &"on a thread".into()), "{found}");
    assert_eq!(found[2], found[3], "the inner layer answers in the child, with the state of the child");
    assert!(worker.terminate(secs(20)).success());
    let heard: Vec<String> = worker
        .lines_with("layer: ")
        .iter()
        .filter_map(|line| Some(line.split_once("layer: ")?.1.to_owned()))
        .collect();
    assert_eq!(
        heard,
        [
            "outer before pools.late",
            "outer after a value",
            "outer before pools.panics_here",
            "outer after an error",
            "outer before pools.made_in",
            "outer after a value",
            "outer before pools.pid",
            "outer after a value",
        ]
    );
    assert_eq!(worker.lines_with("hook: worker_process_init").len(), 1);
    assert_eq!(worker.lines_with("hook: worker_init").len(), 1);
}
