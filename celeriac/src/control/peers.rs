//! Whether the other workers of the same queues use the same keys and times: what differs is said at the start.
//!
//! Peers are asked by remote control (`active_queues`, `conf`), which Celery's workers answer too. Those under another
//! `global_keyprefix` hear of nothing that is said here, and the answers of those with another `sep` do not arrive: both
//! show by the bindings of their queues, the former also by how many listen to a `ping` under their prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::client::{Broadcast, Control};
use super::worker_port::WorkerPort;
use crate::broker::{Broker, BrokerError};
use crate::config::TransportOptions;
use crate::events::LogicalClock;
use crate::message::{Map, Value};

/// How long the others may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many of them are asked for their settings at most.
const ASKED: usize = 100;
/// How many nodes a line of the log names.
const SHOWN: usize = 5;

/// Warns of workers that consume one of this worker's queues too, with other transport options.
pub(crate) async fn compare(worker: Arc<dyn WorkerPort>, control: Control, broker: Broker) {
    let queues: Vec<String> = worker.queues().into_iter().map(|queue| queue.name).collect();
    let compared = async {
        same_prefix(&*worker, &control, &queues).await?;
        by_bindings(&*worker, &broker, &queues).await
    };
    if let Err(error) = compared.await {
        log::debug!(error:% = error; "The settings of other workers are not known: {error}");
    }
}

/// A transport option that all workers of a queue must share.
struct Shared {
    name: &'static str,
    of: fn(&TransportOptions) -> String,
    consequence: &'static str,
}

const SHARED: [Shared; 2] = [
    Shared {
        name: "visibility_timeout",
        of: |options| options.visibility_timeout().as_secs_f64().to_string(),
        consequence: "the worker with the shorter one takes what the other still holds, and runs it a second time",
    },
    Shared {
        name: "priority_steps",
        of: |options| format!("{:?}", options.priority_steps()),
        consequence: "messages of some priorities lie in lists that only one side reads",
    },
];

async fn same_prefix(
    worker: &dyn WorkerPort,
    control: &Control,
    queues: &[String],
) -> Result<(), BrokerError> {
    let hostname = &worker.state().hostname;
    let asked = Broadcast::new("active_queues").timeout(PATIENCE);
    let mut peers: Vec<String> = control
        .call(asked)
        .await?
        .into_iter()
        .filter(|(node, reply)| node != hostname && consumes_one(&reply.value, queues))
        .map(|(node, _)| node)
        .collect();
    peers.truncate(ASKED);
    if peers.is_empty() {
        return Ok(());
    }
    let asked = Broadcast::new("conf").destination(&peers).timeout(PATIENCE);
    let mut differing: BTreeMap<(usize, String), BTreeSet<String>> = BTreeMap::new();
    let ours = &worker.config().broker_transport_options;
    for (node, reply) in control.call(asked).await? {
        let Some(theirs) = reply.value.as_map().map(transport_options) else { continue };
        for (number, shared) in SHARED.iter().enumerate() {
            let value = (shared.of)(&theirs);
            if value != (shared.of)(ours) {
                differing.entry((number, value)).or_default().insert(node.clone());
            }
        }
    }
    for ((number, theirs), nodes) in differing {
        let Shared { name, of, consequence } = &SHARED[number];
        let (ours, shown) = (of(ours), list(nodes.iter()));
        log::warn!(
            setting = *name, ours = ours.as_str(), theirs = theirs.as_str(), count = nodes.len();
            "{shown} consume(s) the same queues with {name} {theirs}, and this worker with {ours}: {consequence}\nhint: give all workers of a queue the same broker_transport_options"
        );
    }
    Ok(())
}

/// Whether the answer to `active_queues` names one of those queues.
fn consumes_one(answer: &Value, queues: &[String]) -> bool {
    let name = |queue: &Value| queue.get("name").and_then(Value::as_str).map(str::to_owned);
    answer.as_list().unwrap_or_default().iter().filter_map(name).any(|name| queues.contains(&name))
}

/// The transport options in the answer to `conf`, under whichever name Celery knows the setting.
fn transport_options(settings: &Map) -> TransportOptions {
    let is_it = |name: &&String| name.to_ascii_lowercase().ends_with("broker_transport_options");
    let given = settings.keys().find(is_it).and_then(|name| settings.get(name));
    match given.map(serde_json::to_value) {
        Some(Ok(serde_json::Value::Object(options))) => TransportOptions(options),
        _ => TransportOptions::default(),
    }
}

async fn by_bindings(worker: &dyn WorkerPort, broker: &Broker, queues: &[String]) -> Result<(), BrokerError> {
    let found = broker.foreign_bindings(queues).await?;
    for (theirs, bound) in found.separators {
        let (ours, queues) = (broker.separator(), list(bound.iter()));
        log::warn!(
            setting = "sep", ours, theirs = theirs.as_str();
            "Queue(s) {queues} are bound with the sep {theirs:?} too, and this worker has {ours:?}: messages of some priorities lie in lists that only one side reads\nhint: give all workers and clients the same broker_transport_options"
        );
    }
    let (config, ours) = (worker.config(), broker.prefix());
    for (prefix, bound) in found.prefixes {
        let control = Control::new(broker.under(&prefix), config, worker.codecs(), LogicalClock::default());
        // Nobody answers what asks for no answer; the server says how many heard it.
        let count = control.cast(&Broadcast::new("ping")).await?;
        if (1..u64::MAX).contains(&count) {
            let queues = list(bound.iter());
            log::warn!(
                setting = "global_keyprefix", ours, theirs = prefix.as_str(), count;
                "{count} worker(s) at this broker have the global_keyprefix {prefix:?}, under which queue(s) {queues} are bound too, and this worker has {ours:?}: neither side sees the other's messages\nhint: one application needs one prefix for all its workers and clients; two applications need not care"
            );
        }
    }
    Ok(())
}

/// Names for a line of the log.
fn list<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let shown: Vec<&str> = names.take(SHOWN).map(String::as_str).collect();
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_celery_and_celeriac_tell_them() {
        let of = |settings: Value| transport_options(settings.as_map().unwrap());
        let told = crate::value!({"broker_transport_options": {"visibility_timeout": 60, "sep": ":"}});
        assert_eq!((SHARED[0].of)(&of(told)), "60");
        let old = crate::value!({"BROKER_TRANSPORT_OPTIONS": {"priority_steps": [0, 5]}});
        assert_eq!((SHARED[1].of)(&of(old)), "[0, 5]");
        let nothing = of(crate::value!({"timezone": "UTC"}));
        let defaults = TransportOptions::default();
        assert!(SHARED.iter().all(|shared| (shared.of)(&nothing) == (shared.of)(&defaults)));
        assert_eq!((SHARED[0].of)(&nothing), "3600");
    }
}
