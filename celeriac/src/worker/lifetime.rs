//! The stages of a worker's end, and the work that it waits for.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::WorkerError;
use crate::app::Result;

/// How far a worker has come to its end; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Lifetime {
    /// Cancelled when nothing new is to be started.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when running tasks are to be ended.
    pub(crate) abort: CancellationToken,
    /// Cancelled when the worker ends and no longer waits for a server.
    pub(crate) hurry: CancellationToken,
    /// Cancelled when nothing more will be settled.
    pub(crate) finish: CancellationToken,
    /// Work besides the tasks: etas, chords, commits.
    pub(crate) background: TaskTracker,
    /// Jobs that wait for a place to run in; when the worker stops they go back to their queues with all that waits.
    pub(crate) placing: TaskTracker,
    gives_back_all: Arc<AtomicBool>,
}

impl Lifetime {
    /// Whether tasks that are ended go back to their queue even if their message was acknowledged.
    pub(crate) fn gives_back_all(&self) -> bool {
        self.gives_back_all.load(Ordering::Relaxed)
    }

    /// Lets tasks that are ended go back to their queue even if their message was acknowledged.
    pub(crate) fn give_back_all(&self) {
        self.gives_back_all.store(true, Ordering::Relaxed);
    }

    /// Ends everything at once, as when nobody waits for the worker any more.
    fn end(&self) {
        for stage in [&self.stopping, &self.abort, &self.hurry, &self.finish] {
            stage.cancel();
        }
    }
}

/// Runs something in a task of its own. When the future that this returns is dropped, the token is cancelled, and the
/// task goes on until it has ended in its own way: no step of it is left half done.
///
/// # Errors
/// Those of the task, and [`WorkerError::Runtime`] when the runtime ends it.
pub(super) async fn outlive<T, F>(run: impl FnOnce(CancellationToken) -> F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let abandoned = CancellationToken::new();
    let _guard = abandoned.clone().drop_guard();
    match tokio::spawn(run(abandoned)).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(error) => Err(WorkerError::Runtime { reason: error.to_string() }.into()),
        },
    }
}

/// Ends a worker's work when it is dropped.
pub(super) struct EndOnDrop(pub(super) Lifetime);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}
