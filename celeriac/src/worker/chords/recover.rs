//! Going on with the chords of workers that died, and failing those whose counters are gone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use super::claim::{Claim, completed_by};
use crate::backend::{Backend, BackendError, ExceptionInfo, Freshness, GroupChange, Reclaimed, TaskState};
use crate::canvas;
use crate::failpoints::fail_point;
use crate::message::{ProtocolError, Value};
use crate::worker::runtime::Runtime;

/// How often a worker looks for chords that another one has claimed and not ended.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same on the clock of a test, which jumps from look to look.
const LOOK_EVERY_SIMULATED: Duration = Duration::from_secs(60);
/// How many chords are gone on with at a time.
const AT_A_TIME: usize = 8;

/// Goes on with the chords of workers that died between claiming one and sending its body, and fails those whose size is
/// gone, until the worker stops.
pub(in crate::worker) async fn recover(runtime: Arc<Runtime>) {
    let Some(backend) = runtime.app.result_backend().cloned() else { return };
    let is_simulated = runtime.app.clock().is_simulated();
    let look_every = if is_simulated { LOOK_EVERY_SIMULATED } else { LOOK_EVERY };
    let mut failures = 0;
    loop {
        tokio::select! {
            () = runtime.life.stopping.cancelled() => return,
            () = tokio::time::sleep(look_every) => {}
        }
        match recover_all(&runtime, &backend).await {
            Ok(()) if failures > 0 => {
                log::info!(failures; "Chords of dead workers are looked for again, after {failures} failure(s)");
                failures = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if failures == 0 {
                    log::warn!(backend:% = backend, error:% = error; "Chords of dead workers cannot be looked for, trying again every {}s: {error}", LOOK_EVERY.as_secs());
                }
                failures += 1;
            }
        }
    }
}

async fn recover_all(runtime: &Arc<Runtime>, backend: &Backend) -> Result<(), BackendError> {
    let overdue = stream::iter(backend.overdue_chords().await?);
    let recovered = overdue.map(|group_id| async move {
        let error = match recover_one(runtime, backend, &group_id).await {
            Err(error) if !error.is_retryable() => error,
            outcome => return outcome,
        };
        log::error!(group_id = group_id.as_str(), error:% = error; "Nobody can go on with chord {group_id}, which is looked at again later: {error}");
        backend.put_off_chord(&group_id).await
    });
    // One that cannot be read, or is refused, keeps none of the others waiting.
    let outcomes: Vec<_> = recovered.buffer_unordered(AT_A_TIME).collect().await;
    outcomes.into_iter().collect()
}

async fn recover_one(runtime: &Arc<Runtime>, backend: &Backend, group_id: &str) -> Result<(), BackendError> {
    let token = canvas::random_id();
    let Some(Reclaimed { completing, is_gone }) = backend.reclaim_chord(group_id, &token).await? else {
        return Ok(());
    };
    fail_point!("chord.reclaimed");
    if completing.is_empty() {
        if is_gone {
            // A group that is no chord, of which a message could not be read.
            let failed = GroupChange::Failed { group_id: group_id.to_owned() };
            return backend.carry_out(backend.changing(&failed)).await.map(drop);
        }
        runtime.abandon_chord(backend, group_id).await;
        return Ok(());
    }
    let request =
        completed_by(&completing, &runtime.state.hostname).map_err(BackendError::unreadable(group_id))?;
    let Some(part) = canvas::chord_part(&request, TaskState::Success, Value::Null) else {
        let reason = ProtocolError::bad_body("the part that completed it names no chord");
        return Err(BackendError::unreadable(group_id)(reason));
    };
    let claim = Claim { part, token, completing: Vec::new(), freshness: Freshness::Redelivered };
    if is_gone {
        let text = format!(
            "The counters of chord {group_id} are gone: no part returned for longer than result_chord_expires (result_expires), or they were deleted"
        );
        let exception = ExceptionInfo::celery("ChordError", text);
        runtime.fail_chord(&claim, &exception, &exception, &request).await;
    } else {
        log::warn!(group_id; "Chord {group_id} was complete when its worker died: going on with it");
        runtime.complete_chord(backend, &claim, &request).await;
    }
    Ok(())
}
