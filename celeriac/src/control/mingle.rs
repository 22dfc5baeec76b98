//! Learning from the other workers at the start: the clock, and which tasks are revoked.
//!
//! Source: celery 5.7 `celery/worker/consumer/mingle.py`.

use std::time::Duration;

use super::client::{Broadcast, Control};
use crate::message::{Map, Value};
use crate::worker::Revoked;
use crate::worker::state::{WorkerState, lock};

/// How long other workers may take to answer. The wait ends as soon as all have that listen: alone, there is none.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says hello to the other workers and takes over what they know; returns how many answered.
pub(crate) async fn mingle(control: &Control, state: &WorkerState) -> usize {
    let revoked: Value = lock(&state.revoked).ids().into_iter().map(Value::from).collect();
    let arguments = Map::from([
        ("from_node".to_owned(), state.hostname.as_str().into()),
        ("revoked".to_owned(), revoked),
    ]);
    log::info!("mingle: searching for neighbors");
    let replies = match control.call(Broadcast::new("hello").arguments(arguments).timeout(PATIENCE)).await {
        Ok(replies) => replies,
        Err(error) => {
            log::warn!(error:% = error; "mingle: {error}");
            return 0;
        }
    };
    let mut nodes = 0;
    for (node, reply) in &replies {
        // One's own answer is null.
        let Some(reply) = reply.value.as_map().filter(|_| *node != state.hostname) else { continue };
        nodes += 1;
        match reply.get("clock").and_then(Value::as_i64).and_then(|clock| u64::try_from(clock).ok()) {
            Some(clock) if clock > 0 => state.clock.adjust(clock),
            _ => state.clock.forward(),
        };
        if let Some(revoked) = reply.get("revoked") {
            merge(&mut lock(&state.revoked), revoked);
        }
    }
    match nodes {
        0 => log::info!("mingle: all alone"),
        _ => log::info!(count = nodes; "mingle: sync with {nodes} nodes complete"),
    }
    nodes
}

/// Adds the ids that another worker has revoked: a list, or before 5.7 a mapping by id.
pub(super) fn merge(revoked: &mut Revoked, ids: &Value) {
    let mut add = |id: &str| {
        if !revoked.contains(id) {
            revoked.add(id);
        }
    };
    match ids {
        Value::List(ids) => ids.iter().filter_map(Value::as_str).for_each(&mut add),
        Value::Map(ids) => ids.keys().for_each(|id| add(id)),
        _ => {}
    }
}
