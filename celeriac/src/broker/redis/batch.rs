//! Batches for a Redis server: commands and their replies.

use redis::{Cmd, Value};

use super::exchange::{arguments, guarded};
use crate::broker::{Answers, Batch};

/// Commands that take effect together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commands(Vec<Cmd>);

/// The replies to commands, in their order.
#[derive(Debug, Default)]
pub(crate) struct Replies(Vec<Value>);

impl Commands {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn append(&mut self, others: Self) {
        if self.0.is_empty() {
            self.0 = others.0;
        } else {
            self.0.extend(others.0);
        }
    }
}

impl From<Vec<Cmd>> for Batch {
    fn from(commands: Vec<Cmd>) -> Self {
        if commands.is_empty() { Self::Empty } else { Self::Redis(Commands(commands)) }
    }
}

impl From<Cmd> for Batch {
    fn from(command: Cmd) -> Self {
        Self::Redis(Commands(vec![command]))
    }
}

impl From<Vec<Value>> for Answers {
    fn from(replies: Vec<Value>) -> Self {
        Self::Redis(Replies(replies))
    }
}

impl Batch {
    /// The writes as the arguments of Redis commands, for a program that commits them with its own.
    pub(crate) fn into_arguments(self) -> Vec<Vec<Vec<u8>>> {
        let bytes = |command: &Cmd| arguments(command).map(<[u8]>::to_vec).collect();
        self.into_commands().iter().map(bytes).collect()
    }

    /// The commands, for the consumer and the links of this folder.
    pub(crate) fn into_commands(self) -> Vec<Cmd> {
        match self {
            Self::Redis(Commands(commands)) => commands,
            // A batch of another kind never comes here.
            _ => Vec::new(),
        }
    }
}

impl Replies {
    /// Whether the guard in front allowed what was behind it.
    pub(crate) fn were_allowed(&self) -> bool {
        self.0.first() != Some(&Value::Int(0))
    }
}

impl Answers {
    /// The replies, none when they were lost.
    pub(crate) fn into_replies(self) -> Vec<Value> {
        match self {
            Self::Redis(Replies(replies)) => replies,
            _ => Vec::new(),
        }
    }
}

/// Returns the commands of `then` behind a guard of one command, as one command.
pub(crate) fn guarded_batch(guard: Batch, then: Batch) -> Batch {
    match guard.into_commands().first() {
        Some(guard) => guarded(guard, &then.into_commands()).into(),
        None => then,
    }
}
