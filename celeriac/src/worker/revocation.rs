//! The end of tasks that were revoked, or have expired, before they started.

use std::sync::Arc;

use super::completion::{ignores_result, meta};
use super::ending::Unstarted;
use super::runtime::Runtime;
use crate::canvas::Ending;
use crate::task::{Request, TaskDefinition};

impl Runtime {
    /// Ends a task that is not to start, for that reason: `revoked` or `expired`.
    pub(super) async fn end_unwanted(
        self: &Arc<Self>,
        unstarted: Unstarted,
        definition: &TaskDefinition,
        reason: &str,
    ) {
        let ending = Ending::revoked(reason);
        let meta = |request: &Request| {
            let stores = !ignores_result(self, definition, request);
            stores.then(|| meta(self, request, ending.state.clone(), ending.exception.to_value()))
        };
        self.end_unstarted(unstarted, &ending, meta).await;
    }
}
