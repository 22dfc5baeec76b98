//! Commands that are tried again; which of them break a connection is found out over one of their own.

use redis::Cmd;

use super::{Apart, RedisBackend};
use crate::backend::{BackendError, NotCarriedOut};
use crate::broker::Answers;
use crate::broker::redis::{arguments, largest};
use crate::broker::refusal::Refusal;

/// How often a connection breaks over commands before they are given up.
const BREAKS: u32 = 3;
/// The same for small commands, since connections break for other reasons too.
const BREAKS_OF_SMALL: u32 = 8;
/// How many bytes in one argument are no longer small.
const SMALL: usize = 64 << 10;

/// An attempt at carrying commands out, all or none.
pub(crate) struct Attempt {
    backend: RedisBackend,
    commands: Vec<Cmd>,
    /// Bytes of the largest argument.
    largest: usize,
    breaks: u32,
    /// Whether the connection broke the last time.
    broke: bool,
}

impl RedisBackend {
    /// Returns an attempt at carrying commands out.
    pub(crate) fn attempt(&self, commands: Vec<Cmd>) -> Attempt {
        let largest = largest(&commands).map_or(0, |(_, bytes)| bytes);
        Attempt { backend: self.clone(), commands, largest, breaks: 0, broke: false }
    }
}

impl Attempt {
    /// Tries once; where a connection breaks each time that the commands are sent over one of their own, they are what
    /// breaks it.
    pub(crate) async fn once(&mut self) -> Result<Answers, NotCarriedOut> {
        let outcome = match self.broke {
            false => Apart::Answered(self.backend.run(self.commands.clone()).await),
            true => self.backend.run_apart(self.commands.clone()).await,
        };
        let (error, limit) = match outcome {
            Apart::Answered(Ok(replies)) => return Ok(replies.into()),
            Apart::Answered(Err(error)) => {
                self.broke = matches!(error, BackendError::Connection { .. });
                return Err(NotCarriedOut::Error(error));
            }
            Apart::Broke { error, limit } => (error, limit),
        };
        self.breaks += 1;
        let limit = limit.filter(|limit| self.largest as u64 > *limit);
        let most = if self.largest > SMALL { BREAKS } else { BREAKS_OF_SMALL };
        match error {
            BackendError::Connection { reason, .. } if limit.is_some() || self.breaks >= most => {
                let refusal = Refusal::closed(&self.commands, reason, limit);
                Err(NotCarriedOut::Hopeless { refusal, limit })
            }
            error => Err(NotCarriedOut::Error(error)),
        }
    }

    /// Leaves out what only announces: nobody hears of it then, but it is stored, and who waits for it looks too.
    pub(crate) fn do_without(&mut self, refusal: &Refusal) -> bool {
        let is_announcement = refusal.command == "PUBLISH";
        if is_announcement {
            self.commands.retain(|command| arguments(command).next() != Some(b"PUBLISH"));
        }
        is_announcement
    }
}
