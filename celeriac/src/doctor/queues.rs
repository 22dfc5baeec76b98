//! Queues without workers, and messages that were given up.

use std::collections::{BTreeMap, BTreeSet};

use super::fleet::Fleet;
use crate::broker::{Broker, BrokerError};
use crate::config::Config;
use crate::finding::Finding;

/// Percent of a bound of the dead letters from which the oldest are about to be dropped.
const FULL: u64 = 80;

/// Judges queues in which messages wait and that no worker consumes.
pub(super) fn unread(queues: &BTreeMap<String, u64>, fleet: &Fleet) -> Vec<Finding> {
    const SUBJECT: &str = "queues";
    let consumed: BTreeSet<&String> = fleet.nodes.values().flat_map(|node| &node.queues).collect();
    let waiting: u64 = queues.values().sum();
    let mut findings: Vec<Finding> = queues
        .iter()
        .filter(|(name, length)| **length > 0 && !consumed.contains(name))
        .map(|(name, length)| {
            Finding::problem(
                SUBJECT,
                format!("{length} message(s) wait in {name}, which no worker consumes"),
                format!("start a worker with -Q {name}, correct the name where it is sent to, or celeriac purge -Q {name}"),
            )
        })
        .collect();
    if findings.is_empty() {
        let text =
            format!("{} queue(s) with {waiting} message(s), each with a worker or empty", queues.len());
        findings.push(Finding::good(SUBJECT, text));
    }
    findings
}

/// Judges how many messages were given up.
///
/// # Errors
/// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
pub(super) async fn dead_letters(broker: &Broker, config: &Config) -> Result<Vec<Finding>, BrokerError> {
    const SUBJECT: &str = "dead letters";
    let Some(found) = broker.count_dead_letters().await? else {
        let text = "none are kept: messages that cannot be run are dropped";
        return Ok(vec![
            Finding::note(SUBJECT, text).advising("set celeriac_dead_letter_queue to keep them"),
        ]);
    };
    if found.count == 0 {
        return Ok(vec![Finding::good(SUBJECT, "none")]);
    }
    let is_full = |of: u64, bound: u64| bound > 0 && of.saturating_mul(100) >= bound.saturating_mul(FULL);
    let mut text = format!("{} message(s) were given up", found.count);
    if is_full(found.count, config.celeriac_dead_letter_max_count)
        || is_full(found.bytes.unwrap_or(0), config.celeriac_dead_letter_max_bytes)
    {
        text += ", and the oldest are about to be dropped";
    }
    Ok(vec![Finding::warning(
        SUBJECT,
        text,
        "see celeriac dead list, then celeriac dead requeue or celeriac dead drop",
    )])
}
