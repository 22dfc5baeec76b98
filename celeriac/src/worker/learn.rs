//! What a worker learns before it takes its first message: what is revoked.

use std::sync::Arc;

use super::runtime::Runtime;
use crate::backoff::Backoff;
use crate::broker::{BrokerError, Persistence};
use crate::control::mingle;

/// Reads what was revoked from the broker, waiting until it is there, and asks the other workers.
///
/// # Errors
/// [`BrokerError::GaveUp`] when the broker is not to be tried again.
pub(super) async fn learn(
    runtime: Arc<Runtime>,
    mingles: bool,
    persistence: Persistence,
) -> Result<(), BrokerError> {
    let mingling = async {
        if mingles {
            mingle(runtime.app.control(), Arc::clone(&runtime.state)).await;
        }
        Ok(())
    };
    tokio::try_join!(mingling, read(&runtime, persistence)).map(drop)
}

async fn read(runtime: &Runtime, mut persistence: Persistence) -> Result<(), BrokerError> {
    let mut backoff = Backoff::patient();
    while let Err(error) = runtime.revocations.read(&runtime.state.revoked).await {
        let broker = runtime.app.broker();
        persistence.failed(broker, &error.to_string())?;
        let pause = backoff.next();
        let (attempt, seconds) = (backoff.attempts(), pause.as_secs_f64());
        log::error!(broker:% = broker, error:% = error, attempt; "Cannot connect to broker: {error}. Trying again in {seconds:.2} s (attempt {attempt})");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = runtime.life.stopping.cancelled() => return Ok(()),
        }
    }
    Ok(())
}
