//! Running a task function within its limits.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::layers::Layers;
use super::threads::Seat;
use crate::message::Value;
use crate::task::{Context, Handler, TaskError, TaskResult};

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The function returned, or panicked.
    Returned(TaskResult<Value>),
    /// The hard limit, in seconds, passed.
    TimedOut(f64),
    /// The process that ran it died.
    Lost(String),
    /// Somebody revoked the running task.
    Terminated,
    /// The worker is shutting down cold.
    Cancelled,
}

/// What may end a run from outside.
pub(crate) struct Limits {
    /// Seconds after which the run is ended.
    pub(crate) hard: Option<f64>,
    /// Seconds after which the task is told.
    pub(crate) soft: Option<f64>,
    /// Ends this run.
    pub(crate) terminate: CancellationToken,
    /// Ends all runs.
    pub(crate) abort: CancellationToken,
}

/// Runs the function until it ends or is ended.
///
/// An async function is dropped when it is ended; a blocking one goes on in its thread, but nobody waits for it.
pub(crate) async fn execute(
    layers: &Layers,
    handler: &Handler,
    seat: Option<Seat>,
    context: Context,
    limits: Limits,
) -> Ended {
    let run = async { Ended::Returned(layers.run(handler, seat, context.clone()).await) };
    if limits.hard.is_none() && limits.soft.is_none() {
        return tokio::select! {
            biased;
            ended = run => ended,
            () = limits.terminate.cancelled() => Ended::Terminated,
            () = limits.abort.cancelled() => Ended::Cancelled,
        };
    }
    tokio::select! {
        biased;
        ended = run => ended,
        () = limits.terminate.cancelled() => Ended::Terminated,
        () = limits.abort.cancelled() => Ended::Cancelled,
        () = after(limits.hard) => Ended::TimedOut(limits.hard.unwrap_or_default()),
        () = soft_limit(limits.soft, &context) => Ended::Returned(Err(TaskError::SoftTimeLimitExceeded)),
    }
}

/// Tells the task that its soft limit passed; returns only when the task does not watch for it.
async fn soft_limit(seconds: Option<f64>, context: &Context) {
    after(seconds).await;
    if context.reach_soft_limit() {
        std::future::pending::<()>().await;
    }
}

pub(crate) async fn after(seconds: Option<f64>) {
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
