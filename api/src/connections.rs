//! The open connections: how many there may be, and which of them are closed because their clients say nothing.
//!
//! Without a limit a few thousand silent clients take every file descriptor, and the API answers nobody. At the limit the
//! connection that has waited longest for its client makes room for the new one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The longest that a client may take to send the head of a request.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a connection is kept for a further request.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// All open connections.
pub(crate) struct Connections {
    limit: usize,
    open: Mutex<Open>,
    ended: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    activities: HashMap<u64, Arc<Activity>>,
}

impl Connections {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), open: Mutex::default(), ended: Notify::new() })
    }

    /// Waits until one more connection may be opened; at the limit, closes the one whose client is silent the longest.
    ///
    /// Cancel safe.
    pub(crate) async fn make_room(&self) {
        loop {
            let ended = self.ended.notified();
            {
                let open = self.open();
                if open.activities.len() < self.limit {
                    return;
                }
                let waiting =
                    open.activities.values().filter_map(|activity| Some((activity.waits_since()?, activity)));
                if let Some((_, activity)) = waiting.min_by_key(|(since, _)| *since) {
                    activity.closing.cancel();
                }
            }
            ended.await;
        }
    }

    /// Registers a connection until the place is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Place {
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        let activity = Arc::new(Activity::default());
        open.activities.insert(number, Arc::clone(&activity));
        Place { connections: Arc::clone(self), number, activity }
    }

    /// Closes connections whose clients have been silent for too long, for as long as it is polled.
    pub(crate) async fn close_silent(&self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            let now = Instant::now();
            let late: Vec<Arc<Activity>> =
                self.open().activities.values().filter(|activity| activity.is_late(now)).cloned().collect();
            late.iter().for_each(|activity| activity.closing.cancel());
        }
    }

    /// Waits until no connection is open.
    pub(crate) async fn all_ended(&self) {
        loop {
            let ended = self.ended.notified();
            if self.open().activities.is_empty() {
                return;
            }
            ended.await;
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection among the open ones.
pub(crate) struct Place {
    connections: Arc<Connections>,
    number: u64,
    pub(crate) activity: Arc<Activity>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().activities.remove(&self.number);
        self.connections.ended.notify_waiters();
    }
}

/// The state of one connection.
#[derive(Default)]
pub(crate) struct Activity {
    state: Mutex<State>,
    /// Cancelled when the connection is to be closed, unless a request has begun meanwhile.
    pub(crate) closing: CancellationToken,
}

#[derive(Clone, Copy)]
enum State {
    /// Nothing, or a part of a request's head, has come; a head is awaited.
    Head(Instant),
    /// A request is being answered.
    Busy,
    /// A request was answered, and nothing has come since.
    Idle(Instant),
}

impl Default for State {
    fn default() -> Self {
        Self::Head(Instant::now())
    }
}

impl Activity {
    /// Notes that the client has sent something.
    pub(crate) fn received(&self) {
        let mut state = self.state();
        if let State::Idle(_) = *state {
            *state = State::Head(Instant::now());
        }
    }

    /// Notes that a request has begun.
    pub(crate) fn begin(&self) {
        *self.state() = State::Busy;
    }

    /// Notes that a request was answered.
    pub(crate) fn end(&self) {
        *self.state() = State::Idle(Instant::now());
    }

    /// Whether no request was answered or begun on it, so that it may be dropped.
    pub(crate) fn awaits_head(&self) -> bool {
        matches!(*self.state(), State::Head(_))
    }

    /// Whether a request is being answered.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(*self.state(), State::Busy)
    }

    fn waits_since(&self) -> Option<Instant> {
        match *self.state() {
            State::Head(since) | State::Idle(since) => Some(since),
            State::Busy => None,
        }
    }

    fn is_late(&self, now: Instant) -> bool {
        match *self.state() {
            State::Head(since) => now.duration_since(since) > HEAD_TIMEOUT,
            State::Idle(since) => now.duration_since(since) > IDLE_TIMEOUT,
            State::Busy => false,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
