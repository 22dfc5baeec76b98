//! The results of many parts.

use crate::stage::Stage;

/// The members of the group are parts of the chord; its header is saved with its shape.
const SEND: &str = r#"
members = [task("identity", number).set(immutable=True) for number in range(1000)]
header = [chain(task("identity", 1).set(immutable=True), group(members))]
print(chord(header, task("xsum")).apply_async().id, stored.info("commandstats")["cmdstat_subscribe"]["calls"])
"#;

const JOIN: &str = r#"
print(outcome(app.AsyncResult("ID")), stored.info("commandstats")["cmdstat_subscribe"]["calls"])
"#;

#[test]
fn the_results_of_a_thousand_parts_in_a_group_are_joined_without_subscribing_to_each() {
    let stage = Stage::new();
    let printed = stage.run(SEND);
    let (id, before) = printed.trim().split_once(' ').expect("an id and how often somebody subscribed");
    let worker = stage.worker(&[]);
    let printed = stage.run(&JOIN.replace("ID", id));
    let (sum, after) = printed.trim().split_once(' ').expect("a result and how often somebody subscribed");
    assert_eq!(sum, "499500");
    let count = |text: &str| text.parse::<u64>().expect("a number");
    // The worker's other subscriptions are few.
    assert!(count(after) - count(before) < 50, "{before} and then {after}");
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
