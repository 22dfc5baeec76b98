//! What a worker learns before it takes its first message: what is revoked.

use std::sync::Arc;

use super::runtime::Runtime;
use crate::backoff::Backoff;
use crate::broker::BrokerError;
use crate::broker::redis::Persistence;
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
    let mut backoff = Backoff::default();
    while let Err(error) = runtime.revocations.read(&runtime.state.revoked).await {
        if backoff.attempts() == 0 {
            log::warn!(error:% = error; "Nothing is consumed until it is known what was revoked: {error}");
        }
        persistence.failed(runtime.app.queues().link().endpoint(), &error.to_string())?;
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = runtime.stopping.cancelled() => return Ok(()),
        }
    }
    Ok(())
}
