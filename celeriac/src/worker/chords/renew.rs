//! Keeping the counters of chords from expiring while their parts run.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::canvas;
use crate::task::Request;
use crate::worker::runtime::Runtime;

/// Most messages that are read at a time to see which chords wait for them.
const READ_AT_A_TIME: usize = 200;

/// Renews the counters of chords that wait for what this worker holds, until it has nothing more to run.
///
/// Whatever runs, or waits here for its eta, may take longer than `result_chord_expires`.
pub(in crate::worker) async fn renew(runtime: Arc<Runtime>) {
    let Some(backend) = runtime.app.result_backend() else { return };
    let Some(every) = backend.renewal() else { return };
    let over = async {
        runtime.life.stopping.cancelled().await;
        runtime.slots.idle().await;
    };
    tokio::pin!(over);
    let mut waiting = HashMap::new();
    let mut failures = 0;
    loop {
        tokio::select! {
            () = &mut over => return,
            () = tokio::time::sleep(every) => {}
        }
        let chords = held_chords(&runtime, &mut waiting);
        if chords.is_empty() {
            continue;
        }
        match backend.renew_chords(&chords).await {
            Ok(()) => failures = 0,
            Err(error) => {
                if failures == 0 {
                    log::warn!(backend:% = backend, error:% = error; "The counters of {} chord(s) cannot be renewed and may expire before their parts are done: {error}", chords.len());
                }
                failures += 1;
            }
        }
    }
}

/// The chords that wait for the messages that this worker holds; `waiting` keeps them by the number of the delivery.
fn held_chords(runtime: &Runtime, waiting: &mut HashMap<u64, Vec<String>>) -> Vec<String> {
    let mut unread = Vec::new();
    {
        let requests = runtime.state.requests();
        waiting.retain(|serial, _| requests.contains_key(serial));
        let others = requests.iter().filter(|(serial, _)| !waiting.contains_key(serial));
        unread.extend(others.take(READ_AT_A_TIME).map(|(serial, known)| (*serial, known.clone())));
    }
    for (serial, known) in unread {
        let hostname = &runtime.state.hostname;
        // What cannot be read says so when it is started.
        let chords = match known.body.decode_triple(&runtime.accept) {
            Ok(Some(body)) => {
                canvas::waiting_chords(&Request::new(known.headers, known.properties, body, hostname))
            }
            _ => known.headers.group.clone().into_iter().collect(),
        };
        waiting.insert(serial, chords);
    }
    let chords: BTreeSet<&String> = waiting.values().flatten().collect();
    chords.into_iter().cloned().collect()
}
