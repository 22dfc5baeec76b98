//! `-B`: a scheduler inside a worker.

use celeriac::Worker;
use celeriac::config::cli::WorkerOptions;
use celeriac::worker::Stopped;
use log::error;

use super::{BeatOptions, Source};
use crate::health::Health;

/// Runs a worker, and beside it the scheduler that `-B` asks for, with the entries of `source`. Any number of workers may
/// have one: one of them sends.
///
/// ```no_run
/// # use celeriac::prelude::*;
/// use celeriac::config::cli::WorkerOptions;
/// use celeriac_beat::Source;
///
/// # async fn example() -> celeriac::Result<Stopped> {
/// let options = WorkerOptions::parse_with_beat(Default::default());
/// let source = Source::settings(&options.config, None);
/// let worker = Worker::from_options("proj", &options)?;
/// celeriac_beat::run_worker(worker, &options, source).await
/// # }
/// ```
///
/// Cancelling it ends the worker as cancelling [`Worker::run`] does, and beat with it.
///
/// # Errors
/// The same as [`Worker::run`]. A scheduler that fails is logged; the worker goes on.
pub async fn run_worker(
    worker: Worker,
    options: &WorkerOptions,
    source: Source,
) -> celeriac::Result<Stopped> {
    let Some(embedded) = options.beat.clone().filter(|_| !celeriac::worker::is_child_process()) else {
        return worker.run().await;
    };
    let beat =
        BeatOptions { schedule: embedded.schedule, scheduler: embedded.scheduler, ..BeatOptions::default() };
    // The worker's own probes take the address, and it answers pings itself.
    let beat = BeatOptions { probe_address: Some(String::new()), no_enable_remote_control: true, ..beat };
    let app = celeriac::Celery::new("beat", options.config.clone())?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let scheduler = tokio::spawn(async move {
        let shutdown = async move { drop(stopped.await) };
        if let Err(failure) = beat.run_until(app, source, Health::default(), shutdown).await {
            error!("beat ends: {failure}");
        }
    });
    let outcome = worker.run().await;
    drop(stop);
    if let Err(failure) = scheduler.await {
        error!("beat ended: {failure}");
    }
    outcome
}
