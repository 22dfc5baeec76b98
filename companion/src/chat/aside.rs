//! Work on a message that keeps a processor busy, away from the threads that serve everybody.

use std::{sync::LazyLock, time::Duration};

use tokio::sync::Semaphore;

/// The longest that a message may wait and be worked on.
const LIMIT: Duration = Duration::from_secs(5);

/// As many messages at a time as leave a processor for everybody else.
static PLACES: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new(processors.saturating_sub(1).max(1))
});

/// Runs `work` on a blocking thread; `None` when it does not end within 5 s.
///
/// Work that is given up keeps its place until it ends, so that many of them do not take all processors.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    within(LIMIT, work).await
}

async fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let done = async {
        // Nobody closes the semaphore.
        let place = PLACES.acquire().await.ok()?;
        let working = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        working.await.ok()
    };
    tokio::time::timeout(limit, done).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_that_does_not_end_is_given_up_without_keeping_the_thread() {
        let (release, released) = mpsc::channel::<()>();
        let stuck = within(Duration::from_millis(50), move || released.recv().is_ok());
        // This runtime has one thread: were the work on it, neither the time limit nor anything else could come to pass.
        assert_eq!(stuck.await, None);
        let places = PLACES.available_permits();
        release.send(()).expect("the work still waits");
        while PLACES.available_permits() == places {
            tokio::task::yield_now().await;
        }
        assert_eq!(aside(|| "done").await, Some("done"));
    }

    #[tokio::test]
    async fn work_that_panics_is_given_up() {
        assert_eq!(aside(|| panic!("a bug in the rules")).await, None::<()>);
    }
}
