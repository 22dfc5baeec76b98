//! Learning from the other workers at the start: the clock, and which tasks are revoked.
//!
//! Source: celery 5.7 `celery/worker/consumer/mingle.py`.

use std::sync::Arc;
use std::time::Duration;

use super::client::{Broadcast, Control};
use crate::message::{Map, Value};
use crate::node::{Revoked, WorkerState, lock};

/// How long other workers may take to answer. The wait ends as soon as all have that listen: alone, there is none.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the first task waits for the answers; those that come later are heard all the same.
const DELAY: Duration = Duration::from_millis(100);

/// Says hello to the other workers and takes over what they know. Returns when all have answered, and soon in any case:
/// idle workers answer within milliseconds, and busy ones must not keep this one from its work.
pub(crate) async fn mingle(control: Control, state: Arc<WorkerState>) {
    let mingling = tokio::spawn(async move { say_hello(&control, &state).await });
    // Either way there is nothing more to do here.
    let _ = tokio::time::timeout(DELAY, mingling).await;
}

async fn say_hello(control: &Control, state: &WorkerState) {
    let revoked: Value = lock(&state.revoked).ids().into_iter().map(Value::from).collect();
    let arguments = Map::from([
        ("from_node".to_owned(), state.hostname.as_str().into()),
        ("revoked".to_owned(), revoked),
    ]);
    log::info!("mingle: searching for neighbors");
    let hello = Broadcast::new("hello").arguments(arguments).timeout(PATIENCE);
    let mut nodes = 0;
    let said = control.call_with(hello, |node, reply| {
        // One's own answer is null.
        if let Some(reply) = reply.as_map().filter(|_| *node != *state.hostname) {
            nodes += 1;
            learn(state, reply);
        }
    });
    match said.await {
        Err(error) => log::warn!(error:% = error; "mingle: {error}"),
        Ok(_) if nodes == 0 => log::info!("mingle: all alone"),
        Ok(_) => log::info!(count = nodes; "mingle: sync with {nodes} nodes complete"),
    }
}

/// Takes over what another worker knows.
fn learn(state: &WorkerState, reply: &Map) {
    match reply.get("clock").and_then(Value::as_i64).and_then(|clock| u64::try_from(clock).ok()) {
        Some(clock) if clock > 0 => state.clock.adjust(clock),
        _ => state.clock.forward(),
    };
    if let Some(revoked) = reply.get("revoked") {
        merge(&mut lock(&state.revoked), revoked);
    }
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
