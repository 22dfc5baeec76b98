//! Settings in which the workers of an application differ.

use std::collections::BTreeMap;

use super::fleet::{Fleet, Node};
use crate::broker::{Broker, BrokerError};
use crate::finding::Finding;

const SUBJECT: &str = "settings";
/// Most nodes that a finding names for each value.
const SHOWN: usize = 3;

/// A setting that all workers should share.
struct Shared {
    name: &'static str,
    /// The option that is compared, for a setting that holds several.
    option: Option<&'static str>,
    /// True where a difference loses tasks, repeats them or makes them unreadable.
    is_needed: bool,
    consequence: &'static str,
}

const fn needed(name: &'static str, consequence: &'static str) -> Shared {
    Shared { name, option: None, is_needed: true, consequence }
}

const fn transport(option: &'static str, consequence: &'static str) -> Shared {
    Shared { name: "broker_transport_options", option: Some(option), is_needed: true, consequence }
}

const fn wanted(name: &'static str, consequence: &'static str) -> Shared {
    Shared { name, option: None, is_needed: false, consequence }
}

const SHARED: &[Shared] = &[
    transport(
        "visibility_timeout",
        "the worker with the shorter one takes what the other still holds, and runs it again",
    ),
    transport("priority_steps", "messages of some priorities lie in lists that only some workers read"),
    transport("sep", "messages of some priorities lie in lists that only some workers read"),
    transport("global_keyprefix", "some workers do not see the messages of the others"),
    transport("fanout_prefix", "remote control and events do not reach all"),
    transport("fanout_patterns", "remote control and events do not reach all"),
    needed(
        "result_backend",
        "results are not where the caller looks, and chords with parts on both sides never complete",
    ),
    needed("task_always_eager", "a worker that runs its subtasks itself sends none"),
    wanted("result_expires", "results live for different times"),
    wanted("timezone", "etas in logs and schedules differ"),
    wanted("enable_utc", "naive etas are read differently"),
    wanted("task_acks_late", "a crash repeats a task or loses it, depending on who took it"),
    wanted("task_reject_on_worker_lost", "a crash repeats a task or loses it, depending on who took it"),
    wanted("task_acks_on_failure_or_timeout", "a failure is acknowledged or not, depending on who took it"),
    wanted("task_time_limit", "a task is ended or not, depending on who took it"),
    wanted("task_soft_time_limit", "a task is warned or not, depending on who took it"),
    wanted("task_ignore_result", "a result is stored or not, depending on who ran it"),
    wanted("task_track_started", "STARTED is shown or not, depending on who runs it"),
    wanted("result_extended", "results hold name and arguments or not, depending on who ran it"),
    wanted("task_default_queue", "tasks sent by tasks go to different queues"),
    wanted("task_default_priority", "tasks sent by tasks have different priorities"),
    wanted("control_exchange", "some workers do not hear remote control"),
    wanted("event_exchange", "monitors do not see all workers"),
];

/// Judges the settings of the workers against each other.
pub(super) fn examine(fleet: &Fleet) -> Vec<Finding> {
    let mut findings: Vec<Finding> = SHARED.iter().filter_map(|shared| difference(shared, fleet)).collect();
    findings.extend(unaccepted(fleet));
    if findings.is_empty() && fleet.nodes.len() > 1 {
        findings.push(Finding::good(SUBJECT, format!("the {} workers agree", fleet.nodes.len())));
    }
    findings
}

fn difference(shared: &Shared, fleet: &Fleet) -> Option<Finding> {
    let mut values: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, node) in &fleet.nodes {
        if !node.unread.iter().any(|unread| unread == shared.name) {
            values.entry(value(shared, node)).or_default().push(name);
        }
    }
    if values.len() < 2 {
        return None;
    }
    let name = shared.option.unwrap_or(shared.name);
    let said: Vec<String> =
        values.iter().map(|(value, nodes)| format!("{value} on {}", some_of(nodes))).collect();
    let text = format!("{name} differs ({}): {}", said.join("; "), shared.consequence);
    let advice = format!("give all workers and clients of the application the same {}", shared.name);
    Some(if shared.is_needed {
        Finding::problem(SUBJECT, text, advice)
    } else {
        Finding::warning(SUBJECT, text, advice)
    })
}

/// The value as it takes effect, so that 3600 and nothing are the same.
fn value(shared: &Shared, node: &Node) -> String {
    let options = &node.config.broker_transport_options;
    match shared.option {
        Some("visibility_timeout") => format!("{} s", options.visibility_timeout().as_secs_f64()),
        Some("priority_steps") => format!("{:?}", options.priority_steps()),
        Some(option) => options.get(option).map_or_else(|| "the default".to_owned(), ToString::to_string),
        None => {
            let all = node.config.to_map(true, true);
            all.get(shared.name).map_or_else(|| "none".to_owned(), ToString::to_string)
        }
    }
}

/// Workers that do not accept what another one sends or stores.
fn unaccepted(fleet: &Fleet) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (sender, theirs) in &fleet.nodes {
        let sent = theirs.config.task_serializer.as_str();
        let refusing: Vec<&str> = fleet
            .nodes
            .iter()
            .filter(|(_, node)| !accepts(node, sent))
            .map(|(name, _)| name.as_str())
            .collect();
        if !refusing.is_empty() {
            findings.push(Finding::problem(
                SUBJECT,
                format!(
                    "{sender} sends its tasks as {sent} (task_serializer), which {} do(es) not accept",
                    some_of(&refusing)
                ),
                format!("add {sent} to accept_content there, or set task_serializer to json"),
            ));
        }
    }
    findings
}

fn accepts(node: &Node, serializer: &str) -> bool {
    node.unread.iter().any(|name| name == "accept_content")
        || node.config.accept_content.iter().any(|accepted| accepted.as_str() == serializer)
}

/// Looks for workers of the same queues under another prefix or separator, whose answers do not arrive here.
///
/// # Errors
/// [`BrokerError::Connection`] and [`BrokerError::Timeout`].
pub(super) async fn foreign(broker: &Broker, fleet: &Fleet) -> Result<Vec<Finding>, BrokerError> {
    let mut queues: Vec<String> = fleet.nodes.values().flat_map(|node| node.queues.clone()).collect();
    queues.sort();
    queues.dedup();
    let found = match broker.foreign_bindings(&queues).await {
        Ok(found) => found,
        Err(BrokerError::Refused { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let ours =
        |option: &str, value: &str| format!("other clients use the {option} {value:?} for the same queues");
    let prefixes = found.prefixes.keys().map(|prefix| {
        Finding::warning(
            SUBJECT,
            format!("{}: neither side sees the other's messages", ours("global_keyprefix", prefix)),
            "one application needs one prefix for all its workers and clients; two applications need not care",
        )
    });
    let separators = found.separators.keys().map(|separator| {
        Finding::problem(
            SUBJECT,
            format!(
                "{}: messages of some priorities lie in lists that only one side reads",
                ours("sep", separator)
            ),
            "give all workers and clients the same broker_transport_options",
        )
    });
    Ok(prefixes.chain(separators).collect())
}

fn some_of(nodes: &[&str]) -> String {
    let more = nodes.len().saturating_sub(SHOWN);
    let shown = nodes[..nodes.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}
