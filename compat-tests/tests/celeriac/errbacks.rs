//! What errbacks find when they are called.

use celeriac::backend::TaskState;
use celeriac::config::Config;
use celeriac::message::{Signature, Value};
use celeriac::prelude::*;
use celeriac::worker::CancellationToken;
use compat_tests::{RedisServer, eventually};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::stage::SOON;

#[celeriac::task(name = "errbacks.fail")]
async fn fail() -> TaskResult<()> {
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

#[celeriac::task(name = "errbacks.fail_late", acks_late)]
async fn fail_late() -> TaskResult<()> {
    Err(TaskError::unexpected("as planned"))
}

#[celeriac::task(name = "errbacks.panic")]
async fn panic(_failed: Value, _error: Value, _traceback: Value) -> TaskResult<()> {
    panic!("as planned")
}

/// Ends when it may.
#[celeriac::task(name = "errbacks.wait")]
async fn wait(
    begun: State<UnboundedSender<()>>,
    gate: State<&'static Semaphore>,
    _failed: Value,
    _error: Value,
    _traceback: Value,
) -> TaskResult<()> {
    begun.send(()).map_err(|error| TaskError::unexpected(error.to_string()))?;
    gate.acquire().await.map_err(|error| TaskError::unexpected(error.to_string()))?.forget();
    Ok(())
}

fn app(redis: &RedisServer) -> Celery {
    let mut config = Config::default();
    for setting in ["broker_url", "result_backend"] {
        config.set(setting, &redis.url()).expect("a URL");
    }
    Celery::new("errbacks", config).expect("an app")
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

/// A worker that dies while an errback runs leaves the message to another one, which calls the errback again.
#[test]
fn a_late_acked_task_that_failed_is_acknowledged_when_its_errbacks_have_ended() {
    static GATE: Semaphore = Semaphore::const_new(0);
    let redis = RedisServer::start();
    let app = app(&redis);
    let held = || {
        let mut redis = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
        redis::cmd("HLEN").arg("unacked").query::<i64>(&mut redis).unwrap()
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (begun, mut beginnings) = unbounded_channel::<()>();
        let stop = CancellationToken::new();
        let worker =
            Worker::new(app.clone()).task(fail_late).task(panic).task(wait).state(begun).state(&GATE);
        let worker = tokio::spawn(worker.stop_on(stop.clone()).without_signals().run());
        let failing = Signature::new("errbacks.fail_late")
            .link_error(Signature::new("errbacks.panic"))
            .link_error(Signature::new("errbacks.wait"));
        app.apply(failing).await.unwrap();
        tokio::time::timeout(SOON, beginnings.recv()).await.unwrap().unwrap();
        assert_eq!(held(), 1);
        GATE.add_permits(1);
        eventually("the message is acknowledged", SOON, || held() == 0);
        stop.cancel();
        worker.await.unwrap().unwrap();
    });
}
