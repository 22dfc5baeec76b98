//! Going on with the chords of workers that died.

use std::sync::Arc;
use std::time::Duration;

use super::Claim;
use crate::backend::TaskState;
use crate::backend::redis::RedisBackend;
use crate::broker::BrokerError;
use crate::canvas;
use crate::failpoints::fail_point;
use crate::message::{Accept, Value, envelope};
use crate::task::Request;
use crate::worker::runtime::Runtime;

/// How often a worker looks for chords that another one has claimed and not ended.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Goes on with the chords of workers that died between claiming one and sending its body, until the worker stops.
pub(in crate::worker) async fn recover(runtime: Arc<Runtime>) {
    let Some(backend) = runtime.app.redis_backend().cloned() else { return };
    loop {
        tokio::select! {
            () = runtime.stopping.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let looked = async {
            for group_id in backend.overdue_chords().await? {
                let token = canvas::random_id();
                if let Some(completing) = backend.reclaim_chord(&group_id, &token).await? {
                    fail_point!("chord.reclaimed");
                    recover_one(&runtime, &backend, token, &completing).await?;
                }
            }
            Ok::<(), BrokerError>(())
        };
        if let Err(error) = looked.await {
            log::debug!(error:% = error; "Recovery of chords put off: {error}");
        }
    }
}

async fn recover_one(
    runtime: &Arc<Runtime>,
    backend: &RedisBackend,
    token: String,
    completing: &[u8],
) -> Result<(), BrokerError> {
    let (message, body) = envelope::decode(completing)?.into_task(&Accept::default())?;
    let request = Request::new(message.headers, message.properties, body, &runtime.state.hostname);
    let Some(part) = canvas::chord_part(&request, TaskState::Success, Value::Null) else { return Ok(()) };
    log::warn!(group_id = part.group_id.as_str(); "Chord {} was complete when its worker died: going on with it", part.group_id);
    let claim = Claim { part, token, completing: Vec::new(), redelivered: true };
    runtime.complete_chord(backend, &claim, &request).await;
    Ok(())
}
