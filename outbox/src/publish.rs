use crate::Outgoing;

/// The way to the broker.
pub trait Publish: Send + Sync {
    /// Publishes all messages, or none where the broker can do that.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] when the same call may work later, [`PublishError::Refused`] when a message cannot be
    /// published as it is.
    fn publish(&self, messages: &[Outgoing]) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Looks at the broker.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`].
    fn look(&self) -> impl Future<Output = Result<BrokerState, PublishError>> + Send;

    /// Claims the right to make the mark that is gone; returns whether this call got it. A claim that is not followed by
    /// [`Publish::mark`] ends within seconds.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`].
    fn claim_mark(&self) -> impl Future<Output = Result<bool, PublishError>> + Send;

    /// Makes the mark by which [`BrokerState::is_marked`] tells that the broker still has what it was given.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`].
    fn mark(&self) -> impl Future<Output = Result<(), PublishError>> + Send;
}

/// The state of the broker as a look shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerState {
    /// Number of messages that wait for a worker.
    pub waiting: u64,
    /// Tells that the mark is there. Without it the broker has lost what it held.
    pub is_marked: bool,
}

/// A reason for which messages were not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The broker cannot be reached; a message may have arrived all the same.
    #[error("the broker is not available: {0}")]
    Unavailable(String),
    /// A message cannot be published as it is.
    #[error("the message cannot be published: {0}")]
    Refused(String),
}
