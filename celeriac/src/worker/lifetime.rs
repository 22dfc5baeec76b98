//! The stages of a worker's end, and the work that it waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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

/// Ends a worker's work when it is dropped.
pub(super) struct EndOnDrop(pub(super) Lifetime);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}
