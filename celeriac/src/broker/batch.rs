//! Writes for one server, in the words of its kind, and what it answers to them.

#[cfg(feature = "testing")]
use super::memory;
use super::redis;

/// Writes that one server carries out together, all or none; made by a broker or a result backend, which alone can read
/// them.
#[derive(Clone, Debug, Default)]
pub(crate) enum Batch {
    /// Nothing.
    #[default]
    Empty,
    /// Commands for a Redis server.
    Redis(redis::Commands),
    /// Writes to a server in memory.
    #[cfg(feature = "testing")]
    Memory(Vec<memory::Write>),
}

/// The answers to a batch, one for each of its writes; empty when they were lost on the way.
#[derive(Debug, Default)]
pub(crate) enum Answers {
    /// Not known.
    #[default]
    Lost,
    /// Replies of a Redis server.
    Redis(redis::Replies),
    /// Answers of a server in memory.
    #[cfg(feature = "testing")]
    Memory(Vec<memory::Answer>),
}

impl Batch {
    /// Whether there is nothing to carry out.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Redis(commands) => commands.is_empty(),
            #[cfg(feature = "testing")]
            Self::Memory(writes) => writes.is_empty(),
        }
    }

    /// Appends the writes of another batch for the same server.
    pub(crate) fn append(&mut self, other: Batch) {
        match (&mut *self, other) {
            (_, Self::Empty) => {}
            (Self::Empty, other) => *self = other,
            (Self::Redis(commands), Self::Redis(others)) => commands.append(others),
            #[cfg(feature = "testing")]
            (Self::Memory(writes), Self::Memory(others)) => writes.extend(others),
            // Whoever commits keeps those of two servers apart.
            #[cfg(feature = "testing")]
            (Self::Redis(_) | Self::Memory(_), _) => debug_assert!(false, "a batch goes to one server"),
        }
    }

    /// The writes for the result backend that stand in front of those for the broker, these, and those that stand behind.
    pub(crate) fn into_steps(self) -> [Self; 3] {
        match self {
            Self::Redis(commands) => commands.into_steps(),
            other => [Self::Empty, other, Self::Empty],
        }
    }

    /// The same with the writes of another batch for the same server behind its own.
    pub(crate) fn and(mut self, other: Batch) -> Self {
        self.append(other);
        self
    }
}

impl Answers {
    /// Whether the guard of [`Broker::guarded`](super::Broker::guarded) allowed what was behind it, as far as that is known.
    pub(crate) fn were_allowed(self) -> bool {
        match self {
            Self::Lost => true,
            Self::Redis(replies) => replies.were_allowed(),
            #[cfg(feature = "testing")]
            Self::Memory(answers) => !answers.first().is_some_and(memory::Answer::forbids),
        }
    }
}
