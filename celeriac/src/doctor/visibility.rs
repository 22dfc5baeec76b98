//! Tasks that outlast the visibility timeout: kombu gives them to a second worker while the first still holds them.
//!
//! Source: kombu 5.7 `QoS.restore_visible` in `kombu/transport/redis.py`. Celeriac's workers renew what they hold.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::fleet::{Fleet, Node};
use crate::finding::Finding;

const SUBJECT: &str = "visibility";

/// Judges what the workers of Celery hold, and may hold, for how long.
pub(super) fn examine(fleet: &Fleet, now: DateTime<Utc>) -> Vec<Finding> {
    let now = now.timestamp_micros() as f64 / 1e6;
    let theirs = fleet.nodes.iter().filter(|(_, node)| !node.renews);
    let mut findings: Vec<Finding> = theirs
        .flat_map(|(name, node)| [running(name, node, now), limits(name, node), etas(name, node, now)])
        .flatten()
        .collect();
    if findings.is_empty() && !fleet.nodes.is_empty() {
        findings.push(Finding::good(SUBJECT, "no task is seen to outlast the visibility timeout"));
    }
    findings
}

fn running(name: &str, node: &Node, now: f64) -> Option<Finding> {
    let timeout = node.visibility().as_secs_f64();
    let held = node.active.iter().filter(|task| !task.acknowledged);
    let age = |started: Option<f64>| started.map_or(0.0, |started| now - started);
    let oldest = held.max_by(|a, b| age(a.time_start).total_cmp(&age(b.time_start)))?;
    let age = age(oldest.time_start);
    let text = format!(
        "{} ({}) runs on {name} for {age:.0} s, unacknowledged, with a visibility timeout of {timeout} s",
        oldest.name, oldest.id
    );
    let advice = "raise visibility_timeout in broker_transport_options of all workers above the longest task, or run it on celeriac's workers, which renew what they hold";
    if age > timeout {
        Some(Finding::problem(SUBJECT, format!("{text}: another worker runs it too"), advice))
    } else if age > timeout / 2.0 {
        Some(Finding::warning(SUBJECT, text, advice))
    } else {
        None
    }
}

fn limits(name: &str, node: &Node) -> Option<Finding> {
    let by_default = node
        .config
        .task_acks_late
        .then(|| Some((node.config.task_time_limit?, "the time limit of all tasks".to_owned())))
        .flatten();
    let (limit, of) = node.longest_limit.clone().max(by_default)?;
    (limit > node.visibility()).then(|| {
        Finding::warning(
            SUBJECT,
            format!(
                "on {name}, {of} may run for {} s, acknowledged late, with a visibility timeout of {} s: another worker would start it too",
                limit.as_secs_f64(),
                node.visibility().as_secs_f64()
            ),
            "raise visibility_timeout above the longest time limit, on all workers alike",
        )
    })
}

fn etas(name: &str, node: &Node, now: f64) -> Option<Finding> {
    let due = |eta: &str| {
        let eta = DateTime::parse_from_rfc3339(eta).ok()?;
        Duration::try_from_secs_f64(eta.timestamp_micros() as f64 / 1e6 - now).ok()
    };
    let beyond: Vec<Duration> = node
        .scheduled
        .iter()
        .filter_map(|task| due(task.eta.as_deref()?))
        .filter(|left| *left > node.visibility())
        .collect();
    let longest = beyond.iter().max()?;
    Some(Finding::warning(
        SUBJECT,
        format!(
            "{} task(s) wait on {name} for an eta up to {:.0} s away, beyond the visibility timeout of {} s: each is given to another worker again and again, and may run several times",
            beyond.len(),
            longest.as_secs_f64(),
            node.visibility().as_secs_f64()
        ),
        "raise visibility_timeout above the longest countdown, or let celeriac's workers take these queues",
    ))
}
