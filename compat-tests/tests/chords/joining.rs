//! The results of many parts.

use crate::stage::Stage;

/// The members of the group are parts of the chord; its header is saved with its shape.
const JOIN_A_GROUP_IN_A_CHAIN: &str = r#"
members = [task("identity", number).set(immutable=True) for number in range(1000)]
header = [chain(task("identity", 1).set(immutable=True), group(members))]
print(outcome(chord(header, task("xsum")).apply_async()), json.dumps({
    name: stored.info("commandstats").get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("subscribe", "mget")
}))
"#;

#[test]
fn the_results_of_a_thousand_parts_in_a_group_are_joined_in_a_few_round_trips() {
    let stage = Stage::new();
    let worker = stage.worker(&[]);
    let printed = stage.run(JOIN_A_GROUP_IN_A_CHAIN);
    let (sum, calls) = printed.trim().split_once(' ').expect("a result and what was called");
    assert_eq!(sum, "499500");
    let calls: serde_json::Value = serde_json::from_str(calls).expect("JSON");
    // Those of the client and of the worker's other subscriptions.
    assert!(calls["subscribe"].as_u64() < Some(50), "{calls}");
    assert_eq!(worker.lines_with("was complete when its worker died"), Vec::<String>::new());
}

/// The group at the end of the chain is sent later, and one of its members takes longer than results are waited for.
const WAIT_FOR_ALL_PARTS: &str = r#"
slow = task("sleeping", 5).set(immutable=True)
quick = lambda number: task("identity", number).set(immutable=True)
header = [chain(quick(1), group(quick(2), slow)), quick(3)]
print(outcome(chord(header, task("identity")).apply_async()))
"#;

#[test]
fn a_chord_with_a_group_at_the_end_of_a_chain_waits_for_all_its_parts() {
    let stage = Stage::new();
    let _worker = stage.worker(&[]);
    assert_eq!(stage.run(WAIT_FOR_ALL_PARTS).trim(), "[[2, None], 3]");
}
