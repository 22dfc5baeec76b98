//! Errbacks that are called in the worker's process: what they find, and who waits for them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use celeriac::backend::TaskState;
use celeriac::config::Config;
use celeriac::message::{Signature, Value};
use celeriac::prelude::*;
use celeriac::worker::{CancellationToken, Stopped};
use compat_tests::RedisServer;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::stage::SOON;

#[celeriac::task(name = "errbacks.fail")]
async fn fail() -> TaskResult<()> {
    Err(TaskError::unexpected("as planned"))
}

#[celeriac::task(name = "errbacks.fail_late", acks_late)]
async fn fail_late() -> TaskResult<()> {
    Err(TaskError::unexpected("as planned"))
}

#[celeriac::task(name = "errbacks.fail_briefly", acks_late, time_limit = 1)]
async fn fail_briefly() -> TaskResult<()> {
    Err(TaskError::unexpected("as planned"))
}

/// Tells what is stored of the task that failed.
#[celeriac::task(name = "errbacks.look")]
async fn look(
    ctx: Context,
    seen: State<UnboundedSender<TaskState>>,
    failed: Value,
    _error: Value,
    _traceback: Value,
) -> TaskResult<()> {
    let Value::Map(failed) = failed else { return Err(TaskError::unexpected("no request")) };
    let id = failed.get("id").and_then(Value::as_str).unwrap_or_default();
    let state =
        ctx.app()?.result(id).state().await.map_err(|error| TaskError::unexpected(error.to_string()))?;
    seen.send(state).map_err(|error| TaskError::unexpected(error.to_string()))
}

/// What errbacks tell of themselves.
type Told = UnboundedSender<&'static str>;

/// Waits for leave to end.
#[celeriac::task(name = "errbacks.wait")]
async fn wait(
    leave: State<Arc<Semaphore>>,
    told: State<Told>,
    _failed: Value,
    _error: Value,
    _traceback: Value,
) -> TaskResult<()> {
    told.send("begun")?;
    leave.acquire().await?.forget();
    told.send("ended")?;
    Ok(())
}

#[celeriac::task(name = "errbacks.panic")]
async fn panic(_failed: Value, _error: Value, _traceback: Value) {
    panic!("as planned");
}

/// On a blocking thread.
#[celeriac::task(name = "errbacks.panic_blocking")]
fn panic_blocking(_failed: Value, _error: Value, _traceback: Value) {
    panic!("as planned");
}

#[celeriac::task(name = "errbacks.tell")]
async fn tell(told: State<Told>, _failed: Value, _error: Value, _traceback: Value) -> TaskResult<()> {
    Ok(told.send("told")?)
}

/// A worker in this process, and what its errbacks tell.
struct Running {
    redis: RedisServer,
    app: Celery,
    told: tokio::sync::mpsc::UnboundedReceiver<&'static str>,
    leave: Arc<Semaphore>,
    stop: CancellationToken,
    worker: JoinHandle<celeriac::Result<Stopped>>,
}

impl Running {
    fn start() -> Self {
        let redis = RedisServer::start();
        let app = app(&redis);
        let (sender, told) = unbounded_channel::<&'static str>();
        let leave = Arc::new(Semaphore::new(0));
        let stop = CancellationToken::new();
        let worker = Worker::new(app.clone()).state(sender).state(Arc::clone(&leave));
        let worker = worker.task(fail).task(fail_late).task(fail_briefly);
        let worker = worker.task(wait).task(panic).task(panic_blocking).task(tell);
        let worker = tokio::spawn(worker.stop_on(stop.clone()).without_signals().run());
        Self { redis, app, told, leave, stop, worker }
    }

    /// Has a task fail that has those errbacks.
    async fn fail(&self, task: &str, errbacks: &[&str]) {
        let errbacks = errbacks.iter().map(|name| Signature::new(*name));
        let failing = errbacks.fold(Signature::new(task), Signature::link_error);
        self.app.apply(failing).await.unwrap();
    }

    #[track_caller]
    fn hears(&mut self, word: &'static str) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let told = tokio::time::timeout(SOON, self.told.recv()).await;
            assert_eq!(told, Ok(Some(word)), "{place}");
        }
    }

    /// Ends the worker, which leaves nothing behind.
    async fn end(self) {
        self.stop.cancel();
        self.worker.await.unwrap().unwrap();
        let left: i64 = redis::cmd("EXISTS")
            .arg(&["celery", "unacked", "unacked_index"])
            .query(&mut self.redis.connection())
            .unwrap();
        assert_eq!(left, 0);
    }
}

fn app(redis: &RedisServer) -> Celery {
    let mut config = Config::default();
    config.set("broker_url", &redis.url()).unwrap();
    config.set("result_backend", &redis.url()).unwrap();
    config.set("worker_concurrency", "2").unwrap();
    Celery::new("errbacks", config).unwrap()
}

#[test]
fn a_failure_is_stored_before_its_errbacks_are_called() {
    const FAILURES: usize = 200;
    let redis = RedisServer::start();
    let app = app(&redis);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (seen, mut states) = unbounded_channel();
        let stop = CancellationToken::new();
        let worker = Worker::new(app.clone()).task(fail).task(look).state(seen);
        let worker = tokio::spawn(worker.stop_on(stop.clone()).without_signals().run());
        for _ in 0..FAILURES {
            app.apply(Signature::new("errbacks.fail").link_error(Signature::new("errbacks.look")))
                .await
                .unwrap();
        }
        for _ in 0..FAILURES {
            let state = tokio::time::timeout(SOON, states.recv()).await.unwrap();
            assert_eq!(state, Some(TaskState::Failure));
        }
        stop.cancel();
        worker.await.unwrap().unwrap();
    });
}

#[tokio::test]
async fn a_warm_shutdown_waits_for_the_errbacks_of_a_task_however_it_is_acknowledged() {
    for task in ["errbacks.fail", "errbacks.fail_late"] {
        let mut running = Running::start();
        running.fail(task, &["errbacks.wait"]).await;
        running.hears("begun").await;
        running.stop.cancel();
        running.leave.add_permits(1);
        running.hears("ended").await;
        running.end().await;
    }
}

#[tokio::test]
async fn an_errback_that_hangs_holds_the_slot_of_its_task_and_no_other() {
    let mut running = Running::start();
    running.fail("errbacks.fail_late", &["errbacks.wait"]).await;
    running.hears("begun").await;
    for _ in 0..10 {
        running.fail("errbacks.fail_late", &["errbacks.tell"]).await;
        running.hears("told").await;
    }
    running.leave.add_permits(1);
    running.hears("ended").await;
    running.end().await;
}

#[tokio::test]
async fn errbacks_are_given_up_at_the_hard_time_limit_of_their_task() {
    let mut running = Running::start();
    running.fail("errbacks.fail_briefly", &["errbacks.wait", "errbacks.tell"]).await;
    running.hears("begun").await;
    // Both slots are free again.
    for _ in 0..2 {
        running.fail("errbacks.fail_late", &["errbacks.wait"]).await;
        running.hears("begun").await;
    }
    running.leave.add_permits(2);
    running.hears("ended").await;
    running.hears("ended").await;
    running.end().await;
}

#[tokio::test]
async fn a_panic_in_an_errback_loses_neither_the_next_one_nor_the_acknowledgement() {
    let mut running = Running::start();
    running.fail("errbacks.fail_late", &["errbacks.panic", "errbacks.panic_blocking", "errbacks.tell"]).await;
    running.hears("told").await;
    running.end().await;
}
