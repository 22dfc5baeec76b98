//! Beat as a service: ticks until it is told to end, through outages of its store.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::Utc;
use log::{error, info, warn};
use tokio::sync::mpsc::Receiver;

use crate::configured::Configured;
use crate::publish::Publish;
use crate::scheduler::Scheduler;
use crate::store::{ScheduleStore, StoreError};

/// Time that a tick in progress is given to end, when beat is told to.
const LAST_TICK: Duration = Duration::from_secs(5);

/// Time that giving the lock back may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest pause after a failure of the store.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Ticks until `shutdown` is ready, then gives the lock back. A tick in progress is brought to an end: what it has recorded
/// is sent.
///
/// Cancel safe, but for the lock of the schedule, which then is free only when it ends by itself; `shutdown` gives it back.
///
/// # Errors
/// When the store fails in a way that does not pass by itself.
pub async fn run<S: ScheduleStore, P: Publish>(
    scheduler: Scheduler<S, P>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), StoreError> {
    let (_sender, reloads) = tokio::sync::mpsc::channel(1);
    run_with(scheduler, shutdown, reloads).await
}

/// As [`run`], and takes other configured entries whenever some come.
///
/// Cancel safe, but for the lock of the schedule, which then is free only when it ends by itself; `shutdown` gives it back.
///
/// # Errors
/// The same as [`run`].
pub async fn run_with<S: ScheduleStore, P: Publish>(
    mut scheduler: Scheduler<S, P>,
    shutdown: impl Future<Output = ()>,
    mut reloads: Receiver<Configured>,
) -> Result<(), StoreError> {
    let mut shutdown = pin!(shutdown);
    let stopper = scheduler.stopper();
    let mut failures: u32 = 0;
    scheduler.health().began();
    let outcome = loop {
        let started = Instant::now();
        let mut is_told = false;
        let ticked = {
            let mut tick = pin!(scheduler.tick(Utc::now()));
            tokio::select! {
                biased;
                ticked = &mut tick => Some(ticked),
                () = &mut shutdown => {
                    is_told = true;
                    stopper.store(true, Ordering::Relaxed);
                    tokio::time::timeout(LAST_TICK, tick).await.ok()
                }
            }
        };
        let pause = match ticked {
            _ if is_told => break Ok(()),
            None => break Ok(()),
            Some(Ok(pause)) => {
                if std::mem::take(&mut failures) > 0 {
                    info!("the schedule can be reached again");
                }
                pause.saturating_sub(started.elapsed())
            }
            Some(Err(failure)) if failure.is_retryable() => {
                if failures == 0 {
                    warn!("{failure}; trying again until it works");
                }
                failures += 1;
                Duration::from_millis(50).saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE)
            }
            Some(Err(failure)) => break Err(failure),
        };
        tokio::select! {
            biased;
            () = &mut shutdown => break Ok(()),
            Some(configured) = reloads.recv() => {
                info!("the configuration is read again; {} configured entries", configured.len());
                scheduler.reconfigure(configured);
            }
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
