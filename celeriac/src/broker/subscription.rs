//! Messages of fanout exchanges as they come.

use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::message::Message;

/// Messages of fanout exchanges, across reconnections; ends when it is dropped.
pub struct Subscription {
    messages: mpsc::Receiver<Message>,
    _stop: DropGuard,
}

impl Subscription {
    /// A subscription that gives those messages; `stop` is cancelled when it is dropped.
    pub(crate) fn new(messages: mpsc::Receiver<Message>, stop: CancellationToken) -> Self {
        Self { messages, _stop: stop.drop_guard() }
    }

    /// Returns the next message, or `None` when there will be none.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }
}
