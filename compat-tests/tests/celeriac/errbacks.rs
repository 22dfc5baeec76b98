//! What errbacks find when they are called.

use celeriac::backend::TaskState;
use celeriac::config::Config;
use celeriac::message::{Signature, Value};
use celeriac::prelude::*;
use celeriac::worker::CancellationToken;
use compat_tests::RedisServer;
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

#[test]
fn a_failure_is_stored_before_its_errbacks_are_called() {
    const FAILURES: usize = 200;
    let redis = RedisServer::start();
    let mut config = Config::default();
    config.set("broker_url", &redis.url()).unwrap();
    config.set("result_backend", &redis.url()).unwrap();
    let app = Celery::new("errbacks", config).unwrap();
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
