//! The test worker: the real worker in a runtime of its own, which goes on only while somebody waits for it.

use std::future::Future;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::sent::server;
use super::{Sent, sent};
use crate::app::{AsyncResult, Celery, Error, Result};
use crate::backend::Backend;
use crate::backend::memory::MemoryBackend;
use crate::broker::memory::Server;
use crate::message::Signature;
use crate::node::WorkerState;
use crate::worker::{Stopped, Worker, WorkerError};

/// How much time of the test one call may take.
const LIMIT: Duration = Duration::from_secs(7 * 86_400);
/// The same in real time.
const REAL_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked for the end although the consumer made no turn.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// How long nothing may happen until there is nothing left to do, in real time.
const STILL: Duration = Duration::from_millis(20);

/// A worker for tests: the real one, on an application in memory (see [`app`](super::app)).
///
/// It has a thread and a runtime of its own, in which time passes only while one of its methods is awaited. The clock is
/// paused: it jumps to the next timer as soon as no task has anything to do, so etas, countdowns, retries, rate limits
/// and time limits take no time. It stands still while a blocking task runs. Tasks that wait for something outside of the
/// test, such as a database, need [`TestWorker::start_in_real_time`]: to a paused clock they seem idle.
///
/// Left out of the worker are signals, remote control, gossip, mingle, heartbeats and probes. A task of the pool
/// `process` runs in a thread.
pub struct TestWorker {
    app: Celery,
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    running: Arc<Running>,
    is_real_time: bool,
}

type Work = Box<dyn FnOnce(&tokio::runtime::Runtime) + Send>;

/// The worker that runs, and how it ended.
struct Running {
    server: Arc<Server>,
    backend: Option<MemoryBackend>,
    state: Arc<OnceLock<Arc<WorkerState>>>,
    stop: CancellationToken,
    ended: Mutex<Option<tokio::task::JoinHandle<Result<Stopped>>>>,
}

impl TestWorker {
    /// Starts a worker on a paused clock.
    ///
    /// Cancel safe: the worker ends.
    ///
    /// # Errors
    /// [`Error::Worker`] when its application is not in memory, and those of [`Worker::run`].
    pub async fn start(worker: Worker) -> Result<Self> {
        Self::start_as(worker, false).await
    }

    /// Starts a worker for which time passes as everywhere else.
    ///
    /// Cancel safe: the worker ends.
    ///
    /// # Errors
    /// The same as [`TestWorker::start`].
    pub async fn start_in_real_time(worker: Worker) -> Result<Self> {
        Self::start_as(worker, true).await
    }

    async fn start_as(worker: Worker, is_real_time: bool) -> Result<Self> {
        let app = worker.app().clone();
        if app.broker().memory().is_none_or(|broker| !broker.server().clock().is_simulated()) {
            return Err(WorkerError::NotInMemory.into());
        }
        let running = Arc::new(Running {
            server: Arc::clone(server(&app)),
            backend: app.result_backend().and_then(Backend::memory).cloned(),
            state: Arc::default(),
            stop: CancellationToken::new(),
            ended: Mutex::default(),
        });
        let (work, works) = channel();
        let thread = std::thread::Builder::new().name("test-worker".to_owned());
        let thread = thread.spawn(move || serve(&works, is_real_time));
        let thread = thread.map_err(|error| WorkerError::NoThread { reason: error.to_string() })?;
        let started = Self { app, work: Some(work), thread: Some(thread), running, is_real_time };
        let (ready, is_ready) = oneshot::channel();
        let ready = Mutex::new(Some(ready));
        let tell = move || {
            if let Some(ready) = ready.lock().unwrap_or_else(PoisonError::into_inner).take() {
                // Whoever waits may have been cancelled.
                let _ = ready.send(());
            }
        };
        let running = Arc::clone(&started.running);
        let worker = worker.for_test(Arc::clone(&running.state), running.stop.clone()).on_worker_ready(tell);
        started
            .call(async move {
                running.server.clock().follow();
                let mut worker = tokio::spawn(worker.run());
                tokio::select! {
                    Ok(()) = is_ready => {}
                    ended = &mut worker => return ended_early(ended),
                }
                *running.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
                Ok(())
            })
            .await?;
        Ok(started)
    }

    /// Returns the application.
    pub fn app(&self) -> &Celery {
        &self.app
    }

    /// Returns the time of the test.
    pub fn now(&self) -> DateTime<Utc> {
        self.running.server.clock().now()
    }

    /// Returns the messages of tasks that were sent so far.
    pub fn sent(&self) -> Sent {
        sent(&self.app)
    }

    /// Sends a task, chain, group or chord, runs everything to the end, and returns the result.
    ///
    /// If it is cancelled, the task may run all the same.
    ///
    /// # Errors
    /// [`Error::Task`] when it failed, [`Error::Timeout`] when nothing is left to do and there is no result (its task
    /// ignores it, for example) or a week of the test has passed, and those of [`Celery::apply`] and
    /// [`AsyncResult::get_as`].
    pub async fn run<T: DeserializeOwned + Send + 'static>(
        &self,
        signature: impl Into<Signature>,
    ) -> Result<T> {
        let (app, signature) = (self.app.clone(), signature.into());
        let sending = async move { app.apply(signature).await };
        let result = self.call(sending).await?;
        self.drain().await?;
        self.result(&result).await
    }

    /// Returns the result of something that was sent, running everything to the end first.
    ///
    /// Cancel safe: the result stays, and can be waited for again.
    ///
    /// # Errors
    /// The same as [`TestWorker::run`].
    pub async fn wait<T: DeserializeOwned + Send + 'static>(&self, result: &AsyncResult) -> Result<T> {
        self.drain().await?;
        self.result(result).await
    }

    async fn result<T: DeserializeOwned + Send + 'static>(&self, result: &AsyncResult) -> Result<T> {
        let result = result.clone();
        self.call(async move { result.get_as(Duration::from_millis(1)).await }).await
    }

    /// Runs everything that was sent to the queues of the worker, and what follows from it, until nothing is left to do;
    /// also what is to start later.
    ///
    /// Cancel safe: it only waits.
    ///
    /// # Errors
    /// [`Error::Timeout`] after a week of the test, [`Error::Worker`] when the worker has ended.
    pub async fn drain(&self) -> Result<()> {
        let (running, is_real_time) = (Arc::clone(&self.running), self.is_real_time);
        self.call(async move {
            let limit = if is_real_time { REAL_LIMIT } else { LIMIT };
            let draining = tokio::time::timeout(limit, running.quiet(is_real_time));
            draining.await.map_err(|_| Error::Timeout {
                task_id: running.first_unfinished().unwrap_or_default(),
                deadline: limit,
            })?
        })
        .await
    }

    /// Lets time pass, in which the worker does what is due.
    ///
    /// If it is cancelled, some of the time may have passed.
    ///
    /// # Errors
    /// [`Error::Worker`] when the worker has ended.
    pub async fn advance(&self, time: Duration) -> Result<()> {
        self.call(async move {
            tokio::time::sleep(time).await;
            Ok(())
        })
        .await
    }

    /// Shuts the worker down warm: what runs is finished, what waits stays in its queue.
    ///
    /// If it is cancelled, the worker ends cold.
    ///
    /// # Errors
    /// The same as [`Worker::run`].
    pub async fn stop(self) -> Result<Stopped> {
        let running = Arc::clone(&self.running);
        running.stop.cancel();
        let worker = running.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.call(async move {
            match worker {
                Some(worker) => worker
                    .await
                    .map_err(|error| WorkerError::TestWorkerEnded { reason: format!(": {error}") })?,
                None => Ok(Stopped::default()),
            }
        })
        .await
    }

    /// Runs something in the runtime of the worker, which goes on meanwhile.
    async fn call<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::from(WorkerError::TestWorkerEnded { reason: String::new() });
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |runtime| {
            // Whoever waits may have been cancelled.
            let _ = answer.send(runtime.block_on(work));
        });
        self.work.as_ref().ok_or_else(gone)?.send(work).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        self.running.stop.cancel();
        drop(self.work.take());
        // The thread ends by itself; nobody waits for a task that hangs.
        drop(self.thread.take());
    }
}

impl Running {
    /// Returns when nothing is left to do.
    async fn quiet(&self, is_real_time: bool) -> Result<()> {
        let mut turns = self.server.turns();
        loop {
            turns.borrow_and_update();
            if self.has_ended() {
                return Err(WorkerError::TestWorkerEnded { reason: String::new() }.into());
            }
            if !self.is_quiet() {
                // The consumer makes a turn after each change, and when a task has ended.
                let _ = tokio::time::timeout(LOOK_AGAIN, turns.changed()).await;
                continue;
            }
            // On a paused clock this passes when no task of the runtime has anything to do.
            tokio::time::sleep(if is_real_time { STILL } else { Duration::from_nanos(1) }).await;
            if self.is_quiet() && !turns.has_changed().unwrap_or_default() {
                return Ok(());
            }
        }
    }

    fn is_quiet(&self) -> bool {
        let holds_none = self.state.get().is_none_or(|state| state.requests().is_empty());
        let waits_for_none = self
            .backend
            .as_ref()
            .is_none_or(|backend| backend.read(|_, results| results.unsent_chords() == 0));
        holds_none && waits_for_none && self.server.read(|state| state.is_quiet())
    }

    fn has_ended(&self) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.as_ref().is_none_or(tokio::task::JoinHandle::is_finished)
    }

    /// The id of a task that is not finished.
    fn first_unfinished(&self) -> Option<String> {
        self.state.get()?.requests().values().find_map(|known| known.headers.id.clone())
    }
}

fn ended_early<T>(ended: std::result::Result<Result<Stopped>, tokio::task::JoinError>) -> Result<T> {
    ended.map_err(|error| WorkerError::TestWorkerEnded { reason: format!(": {error}") })??;
    Err(WorkerError::TestWorkerEnded { reason: String::new() }.into())
}

/// Does one work after the other in a runtime that stands still in between.
fn serve(works: &Receiver<Work>, is_real_time: bool) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(!is_real_time).build();
    let Ok(runtime) = runtime else { return };
    while let Ok(work) = works.recv() {
        work(&runtime);
    }
    runtime.shutdown_background();
}
