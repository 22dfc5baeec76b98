//! The end of a worker: what waits goes back to its queues at once, what runs is finished or ended.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Stopped;
use super::runtime::Runtime;
use super::signals::{Shutdown, Signals};
use crate::failpoints::fail_point;

/// How long before the end of its grace a worker gives back what runs still.
const LAST_SECONDS: Duration = Duration::from_secs(2);
/// How long the last round trip that fetches is waited for.
const LAST_FETCH: Duration = Duration::from_millis(500);
/// How long a server that does not take what a task comes to is waited for, while the worker ends.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long a worker without a grace has for leaving, once nothing runs any more.
const LEAVING: Duration = Duration::from_secs(10);
/// How long it then has for what the broker refuses.
const LAST_CHANCE: Duration = Duration::from_secs(20);

/// How a worker was asked to end, and by when it is to have ended.
pub(super) struct End {
    pub(super) stopped: Stopped,
    /// When everything but the consumer is to have ended.
    pub(super) parts: Instant,
    /// When all is to have ended.
    pub(super) all: Instant,
}

/// Waits for the wish to end; a warm shutdown becomes a cold one when that is asked for meanwhile, or when the grace ends.
pub(super) async fn wait_for_end(
    runtime: &Arc<Runtime>,
    stop: CancellationToken,
    signals: Option<Signals>,
    abandoned: CancellationToken,
) -> End {
    let mut wishes = Wishes { signals, abandoned };
    let first = tokio::select! {
        shutdown = wishes.next() => shutdown,
        () = stop.cancelled() => Shutdown::Warm,
        () = runtime.life.stopping.cancelled() => Shutdown::Warm,
    };
    let grace = runtime.config().celeriac_shutdown_grace;
    let begun = Instant::now();
    let deadline = begun + grace.saturating_sub(LAST_SECONDS.min(grace / 2));
    // Whoever waits for a server is in the way of the end.
    let patience = if grace.is_zero() { begun + PATIENCE } else { deadline };
    let hurry = runtime.life.hurry.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = sleep_until(patience) => hurry.cancel(),
            () = hurry.cancelled() => {}
        }
    });
    log::info!(worker = runtime.state.hostname.as_str(); "{} shutdown: {}", if first == Shutdown::Cold { "Cold" } else { "Warm" }, runtime.state.hostname);
    hand_back_waiting(runtime).await;
    let soft = runtime.config().worker_soft_shutdown_timeout;
    let also_idle = runtime.config().worker_enable_soft_shutdown_on_idle;
    let is_cold = match first {
        Shutdown::Cold if soft.is_zero() => true,
        Shutdown::Cold => tokio::select! {
            () = runtime.slots.idle(), if !also_idle => false,
            () = tokio::time::sleep(soft) => true,
            () = wishes.cold() => true,
        },
        Shutdown::Warm => tokio::select! {
            () = runtime.slots.idle() => false,
            () = wishes.cold() => true,
            () = sleep_until(deadline), if !grace.is_zero() => {
                log::warn!(worker = runtime.state.hostname.as_str(); "The grace of {}s ends: what runs still goes back to its queue", grace.as_secs_f64());
                runtime.life.give_back_all();
                true
            }
        },
    };
    if is_cold {
        runtime.life.hurry.cancel();
    }
    let is_interrupted = wishes.signals.as_ref().is_some_and(Signals::is_interrupted);
    let is_hangup = wishes.signals.as_ref().is_some_and(Signals::restarts);
    let now = Instant::now();
    let (parts, all) = match grace.is_zero() {
        true => (now + LEAVING, now + LEAVING + LAST_CHANCE),
        false => {
            let left = (begun + grace).saturating_duration_since(now);
            (now + left.mul_f64(0.5), now + left.mul_f64(0.9))
        }
    };
    End { stopped: Stopped { is_cold, is_interrupted, is_hangup }, parts, all }
}

/// The ways in which a worker is asked to end more than once.
struct Wishes {
    signals: Option<Signals>,
    /// Cancelled when nobody waits for the worker any more.
    abandoned: CancellationToken,
}

impl Wishes {
    /// Returns when a cold shutdown is asked for.
    async fn cold(&mut self) {
        while self.next().await != Shutdown::Cold {}
    }

    /// Returns the next wish.
    async fn next(&mut self) -> Shutdown {
        let signal = async {
            match &mut self.signals {
                Some(signals) => signals.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            shutdown = signal => shutdown,
            () = self.abandoned.cancelled() => Shutdown::Cold,
        }
    }
}

/// Ends fetching, then puts every message that has not started back to the head of its queue, in the order in which
/// they came from there.
async fn hand_back_waiting(runtime: &Arc<Runtime>) {
    runtime.slots.close();
    runtime.life.stopping.cancel();
    runtime.consumer.wake();
    fail_point!("shutdown.begun");
    // What the last round trip brings belongs behind what came before it.
    let _ = timeout(LAST_FETCH, runtime.consumer.fetching_ended()).await;
    // Jobs that waited for a place give themselves back to the slots, from where all go in their old order.
    runtime.life.placing.close();
    let _ = timeout(LAST_FETCH, runtime.life.placing.wait()).await;
    let mut waiting = runtime.slots.drain();
    waiting.extend(runtime.rate_limits.drain().into_iter().map(|job| *job));
    waiting.extend(runtime.schedule.drain());
    // The last first: each goes in front of the one before.
    waiting.sort_by_key(|job| Reverse(job.serial));
    waiting.into_iter().for_each(|job| job.hand_back());
    fail_point!("shutdown.handed_back");
}

/// Ends what runs, if the shutdown is cold, and waits until everything is settled.
pub(super) async fn shut_down(runtime: &Arc<Runtime>, is_cold: bool) {
    if is_cold {
        runtime.life.abort.cancel();
    }
    runtime.slots.idle().await;
    runtime.processes.close().await;
    runtime.life.background.close();
    // Chords and results of the last tasks; who calls this waits no longer than it can.
    runtime.life.background.wait().await;
}
