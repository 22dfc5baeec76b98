//! What a worker learns before it takes its first message: what is revoked.

use std::sync::Arc;

use super::runtime::Runtime;
use crate::backoff::Backoff;
use crate::control::mingle;

/// Reads what was revoked from the broker, waiting until it is there, and asks the other workers.
pub(super) async fn learn(runtime: Arc<Runtime>, mingles: bool) {
    let mingling = async {
        if mingles {
            mingle(runtime.app.control(), Arc::clone(&runtime.state)).await;
        }
    };
    tokio::join!(mingling, read(&runtime));
}

async fn read(runtime: &Runtime) {
    let mut backoff = Backoff::default();
    while let Err(error) = runtime.revocations.read(&runtime.state.revoked).await {
        if backoff.attempts() == 0 {
            log::warn!(error:% = error; "Nothing is consumed until it is known what was revoked: {error}");
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = runtime.stopping.cancelled() => return,
        }
    }
}
