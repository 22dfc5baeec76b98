//! The loops of a running worker: begun together, and ended one after the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::assembly::Assembled;
use super::autoscale::Autoscale;
use super::builder::Parts;
use super::error::WorkerError;
use super::port::Port;
use super::runtime::Runtime;
use super::schedule::Schedule;
use super::shutdown::{End, shut_down, wait_for_end};
use super::signals::Signals;
use super::{Stopped, chords, hooks, learn};
use crate::app::Result;
use crate::broker::{BrokerError, Consumer, Persistence};
use crate::control::{QueueInfo, Service, compare};
use crate::failpoints::fail_point;

/// The loops that end last.
pub(super) struct Loops {
    runtime: Arc<Runtime>,
    consuming: JoinHandle<Result<(), BrokerError>>,
    /// Bringing back what dead workers held, and keeping the state file.
    others: Vec<JoinHandle<()>>,
}

impl Loops {
    /// Starts all loops; the queues of `purged` are emptied before the first message is taken.
    pub(super) fn start(
        assembled: Assembled,
        parts: &Parts,
        declared: Vec<QueueInfo>,
        purged: Vec<String>,
    ) -> Self {
        let Assembled { runtime, consumer, statedb } = assembled;
        let life = &runtime.life;
        declared.iter().for_each(|queue| runtime.consume(queue));
        start_background(&runtime);
        let mingles = !parts.without_mingle && runtime.config().worker_enable_remote_control;
        if mingles {
            let comparing = compare(Port::new(&runtime), runtime.app.control(), runtime.app.broker().clone());
            let stopping = life.stopping.clone();
            // Nobody waits for it.
            tokio::spawn(async move { stopping.run_until_cancelled(comparing).await });
        }
        if !runtime.app.clock().is_simulated() {
            tokio::spawn(Arc::clone(&runtime.health).beat(life.finish.clone()));
        }
        let keeping = statedb.map(|file| file.keep(Arc::clone(&runtime.state), life.finish.clone()));
        let mut others: Vec<_> = keeping.map(tokio::spawn).into_iter().collect();
        others.push(tokio::spawn(runtime.app.broker().clone().restore_abandoned(
            runtime.config().clone(),
            runtime.first_queue(),
            Arc::clone(&runtime.health.refusals),
            runtime.counters.restored.clone(),
            life.stopping.clone(),
        )));
        let consuming = consume(Arc::clone(&runtime), consumer, mingles, declared, purged);
        Self { consuming: tokio::spawn(consuming), others, runtime }
    }

    /// Waits until the worker is to end, and ends it.
    ///
    /// # Errors
    /// [`WorkerError::ConsumerEnded`], and [`BrokerError::GaveUp`].
    pub(super) async fn run(
        mut self,
        stop: CancellationToken,
        signals: Option<Signals>,
        abandoned: CancellationToken,
        service: Option<Service>,
    ) -> Result<Stopped> {
        let runtime = &self.runtime;
        let leaving = async {
            let end = wait_for_end(runtime, stop, signals, abandoned).await;
            let parts = async {
                shut_down(runtime, end.stopped.is_cold).await;
                hooks::each(&runtime.hooks.worker_shutdown, |hook| hook());
                if let Some(service) = service {
                    service.stop().await;
                }
            };
            if timeout_at(end.parts, parts).await.is_err() {
                log::error!(worker = runtime.state.hostname.as_str(); "Work in the background did not end in time and is given up");
                runtime.life.hurry.cancel();
            }
            end
        };
        let end = tokio::select! {
            end = leaving => end,
            // It ends before `finish` only when it gives up, or by a panic. Without it no delivery can be settled, so the
            // worker stops.
            ended = &mut self.consuming => {
                runtime.life.stopping.cancel();
                runtime.life.abort.cancel();
                let ended = ended.map_err(|error| WorkerError::ConsumerEnded { reason: format!(": {error}") })?;
                ended?;
                return Err(WorkerError::ConsumerEnded { reason: String::new() }.into());
            }
        };
        self.end(end).await
    }

    /// Ends the loops, each in its time.
    async fn end(mut self, end: End) -> Result<Stopped> {
        let End { stopped, parts, all } = end;
        fail_point!("shutdown.finished");
        self.runtime.life.finish.cancel();
        for part in self.others {
            let ending = part.abort_handle();
            match timeout_at(parts.max(Instant::now() + Duration::from_secs(1)), part).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => log::error!(error:% = error; "A part of the worker failed: {error}"),
                // A sweep waits for the server, and another worker goes on with it.
                Err(_) => ending.abort(),
            }
        }
        let hostname = self.runtime.state.hostname.as_str();
        match timeout_at(all, &mut self.consuming).await {
            Ok(Ok(consumed)) => consumed?,
            Ok(Err(error)) => log::error!(error:% = error; "The consumer failed: {error}"),
            Err(_) => {
                self.consuming.abort();
                log::error!(worker = hostname; "{hostname} leaves before all is settled: what is not acknowledged comes back after the lease");
            }
        }
        Ok(stopped)
    }
}

/// Starts the loops that end with the work in the background.
fn start_background(runtime: &Arc<Runtime>) {
    let background = &runtime.life.background;
    if runtime.autoscale.bounds().is_some() {
        background.spawn(Autoscale::run(Arc::clone(runtime)));
    }
    background.spawn(Schedule::run(Arc::clone(runtime)));
    background.spawn(chords::recover(Arc::clone(runtime)));
    background.spawn(chords::renew(Arc::clone(runtime)));
    let app = &runtime.app;
    background.spawn(app.broker().clone().warn_of_loss());
    if let Some(backend) =
        app.result_backend().filter(|backend| !app.broker().holds_results(backend)).cloned()
    {
        background.spawn(backend.clone().warn_of_loss());
        let (hostname, refusals) = (runtime.state.hostname.clone(), Arc::clone(&runtime.health.refusals));
        let stopping = runtime.life.stopping.clone();
        tokio::spawn(async move {
            stopping.run_until_cancelled(backend.watch_rights(&hostname, refusals)).await;
        });
    }
}

/// Learns what is revoked, declares and purges queues, and consumes until the worker ends.
async fn consume(
    runtime: Arc<Runtime>,
    consumer: Consumer<Runtime>,
    mingles: bool,
    declared: Vec<QueueInfo>,
    purged: Vec<String>,
) -> Result<(), BrokerError> {
    let persistence = Persistence::new(runtime.config());
    learn::learn(Arc::clone(&runtime), mingles, persistence).await?;
    for queue in declared.iter().filter(|_| !runtime.life.stopping.is_cancelled()) {
        runtime.bind(queue).await;
    }
    runtime.purge(&purged).await;
    runtime.health.consumes_now();
    let (stop_fetching, finish) = (runtime.life.stopping.clone(), runtime.life.finish.clone());
    drop(runtime);
    consumer.run(stop_fetching, finish).await
}
