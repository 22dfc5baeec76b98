//! One list that is consumed from, and how much the server tells of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::Value;

use super::sizes::Size;
use crate::broker::redis::connection::server_error;
use crate::broker::redis::refusal::is_passing;

/// How often a list that the server refused is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// One list: a priority step of a queue.
pub(super) struct Source {
    pub(super) queue: Arc<str>,
    pub(super) key: String,
    pub(super) waiting: usize,
    /// Whether that is all, as far as the server has told.
    pub(super) is_sure: bool,
    /// Whether it is to be asked about: somebody changed it, or this worker did, after which the server announces no
    /// further change until the list is read again.
    pub(super) is_stale: bool,
    /// Whether the last look asked about it.
    pub(super) is_asked: bool,
    pub(super) asks: Asks,
    /// The sizes of its messages.
    pub(super) size: Size,
    /// When the server last refused to move a message from it, if it still does.
    pub(super) refused: Option<Instant>,
}

/// What the server tells of a list; each is tried when the one before is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    Length,
    /// Whether it is there; how much is in it is guessed.
    Existence(usize),
    /// Nothing: messages are asked for from time to time.
    Nothing(usize),
}

impl Source {
    /// Notes that the list has changed.
    pub(super) fn change(&mut self) {
        if self.refused.is_none() {
            self.waiting = self.waiting.max(1);
            self.is_sure = false;
            self.is_stale = true;
        }
    }

    /// Notes the reply to a look.
    pub(super) fn note(&mut self, reply: Option<Value>) {
        (self.is_sure, self.is_stale, self.is_asked) = (true, false, false);
        self.waiting = match (reply, self.asks) {
            (Some(Value::Int(length)), Asks::Length) => usize::try_from(length).unwrap_or(0),
            (Some(Value::Int(0)), Asks::Existence(_)) => 0,
            (Some(Value::Int(_)), Asks::Existence(guess)) => {
                self.is_sure = false;
                guess
            }
            (Some(reply), asks) => match (server_error(&reply), asks) {
                (Some(reason), _) if is_passing(&reason) => 0,
                // Moving a message shows whether the list itself is refused.
                (Some(_), Asks::Length) => {
                    self.asks = Asks::Existence(1);
                    1
                }
                (Some(_), _) => {
                    self.asks = Asks::Nothing(1);
                    1
                }
                (None, _) => 0,
            },
            (None, _) => 0,
        };
    }

    /// Whether to try it again now.
    pub(super) fn is_due(&self) -> bool {
        self.refused.is_some_and(|refused| refused.elapsed() >= TRY_AGAIN)
    }
}
