//! The lists onto which this process pushes, each looked at before the first push.
//!
//! Redis takes an `LPUSH` onto a key of another type into a transaction, refuses it when the transaction is carried out, and
//! carries out the rest: what was to follow a task would exist in this process alone until it is tried again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, Pipeline};

use super::Queues;
use super::connection::server_error;
use super::exchange::arguments;
use crate::broker::BrokerError;
use crate::broker::refusal::{self, Refusal};

/// Most lists that are remembered.
const MOST: usize = 10_000;
/// How long the answer is waited for. Without one the push itself will tell, and has to do so within
/// `celeriac_publish_timeout` (5 s), although connecting may take 4 s.
const PATIENCE: Duration = Duration::from_millis(500);

/// The keys that are known to be lists, or to be free for one; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Lists {
    known: Arc<Mutex<HashSet<Box<[u8]>>>>,
}

impl Lists {
    fn lock(&self) -> MutexGuard<'_, HashSet<Box<[u8]>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lists onto which commands push and which are not known.
    fn unknown<'a>(&self, commands: &'a [Cmd]) -> Vec<&'a [u8]> {
        let known = self.lock();
        let mut unknown = Vec::new();
        for command in commands {
            let mut arguments = arguments(command);
            if let (Some(b"LPUSH"), Some(list)) = (arguments.next(), arguments.next())
                && !known.contains(list)
                && !unknown.contains(&list)
            {
                unknown.push(list);
            }
        }
        unknown
    }

    /// Notes a refusal: if it is one of a push, the list is looked at again before the next one.
    pub(super) fn note(&self, refusal: &Refusal) {
        if let ("LPUSH", Some(list)) = (&*refusal.command, &refusal.key) {
            self.lock().remove(list.as_bytes());
        }
    }

    fn learn(&self, list: &[u8]) {
        let mut known = self.lock();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(list.into());
    }
}

impl Queues {
    /// Looks whether commands push onto lists, before the first push onto each.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] when the key of a queue holds something else.
    pub(crate) async fn check_lists(&self, commands: &[Cmd]) -> Result<(), BrokerError> {
        let unknown = self.lists.unknown(commands);
        if unknown.is_empty() {
            return Ok(());
        }
        let mut ask = Pipeline::new();
        for list in &unknown {
            ask.cmd("LLEN").arg(*list);
        }
        let Ok(Ok(replies)) = tokio::time::timeout(PATIENCE, self.link().send(&mut ask)).await else {
            return Ok(());
        };
        for (list, reply) in unknown.into_iter().zip(replies) {
            let reason = server_error(&reply);
            match reason.as_deref().map(refusal::code) {
                Some("WRONGTYPE") => {
                    return Err(BrokerError::Refused {
                        url: self.link().endpoint().to_string(),
                        command: format!("LPUSH {}", String::from_utf8_lossy(list)),
                        reason: reason.unwrap_or_default(),
                    });
                }
                // Without the right to look there is nothing to wait for.
                None | Some("NOPERM") => self.lists.learn(list),
                Some(_) => {}
            }
        }
        Ok(())
    }
}
