//! Beat as a service: ticks until it is told to end, through outages of its store.

use std::pin::pin;
use std::time::{Duration, Instant};

use chrono::Utc;
use log::{error, info, warn};

use crate::publish::Publish;
use crate::scheduler::Scheduler;
use crate::store::{ScheduleStore, StoreError};

/// Time that giving the lock back may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest pause after a failure of the store.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Ticks until `shutdown` is ready, then gives the lock back. A tick in progress is left at once: what it has recorded
/// but not sent, the next beat sends.
///
/// # Errors
/// When the store fails in a way that does not pass by itself.
pub async fn run<S: ScheduleStore, P: Publish>(
    mut scheduler: Scheduler<S, P>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), StoreError> {
    let mut shutdown = pin!(shutdown);
    let mut failures: u32 = 0;
    let outcome = loop {
        let started = Instant::now();
        let tick = tokio::select! {
            biased;
            () = &mut shutdown => break Ok(()),
            tick = scheduler.tick(Utc::now()) => tick,
        };
        let pause = match tick {
            Ok(pause) => {
                if std::mem::take(&mut failures) > 0 {
                    info!("the schedule can be reached again");
                }
                pause.saturating_sub(started.elapsed())
            }
            Err(failure) if failure.is_retryable() => {
                if failures == 0 {
                    warn!("{failure}; trying again until it works");
                }
                failures += 1;
                Duration::from_millis(100).saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE)
            }
            Err(failure) => break Err(failure),
        };
        tokio::select! {
            biased;
            () = &mut shutdown => break Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    };
    match tokio::time::timeout(STOP_TIMEOUT, scheduler.stop()).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => error!("the lock could not be given back and ends by itself: {failure}"),
        Err(_) => {
            error!("the lock could not be given back within {} s and ends by itself", STOP_TIMEOUT.as_secs())
        }
    }
    outcome
}
