//! Refusals of the server beside which the rest of the consumer goes on.

use redis::Value;

use super::Consumer;
use crate::broker::Receiver;
use crate::broker::redis::connection::server_error;
use crate::broker::redis::exchange::is_full;
use crate::broker::redis::refusal::is_passing;
use crate::broker::refusals::{Refusal, Work};

impl<R: Receiver> Consumer<R> {
    /// Returns the reason why the server refused something, unless it only has no memory for it.
    pub(super) fn refused(&mut self, reply: &Value) -> Option<String> {
        let reason = server_error(reply)?;
        if !is_full(&reason) {
            return Some(reason);
        }
        self.full.begin();
        self.renew_soon();
        None
    }

    /// Notes that the server refuses something beside which the rest goes on; returns why, if it refuses everything now.
    pub(super) fn note_refusal(&mut self, reply: &Value, work: Work, subject: &str) -> Option<String> {
        let reason = self.refused(reply)?;
        if is_passing(&reason) {
            return Some(reason);
        }
        self.refusals.note(Refusal::new(work, subject, reason));
        None
    }

    pub(super) fn note_unfetched(&mut self, list: usize, reply: &Value) -> Option<String> {
        if server_error(reply).is_some_and(|reason| is_passing(&reason)) {
            return self.refused(reply);
        }
        let queue = self.sources.note_refused(list);
        self.note_refusal(reply, Work::Fetch, &queue)
    }

    /// Forgets what was refused of queues that are consumed no longer.
    pub(super) fn forgive_other_queues(&self) {
        for Refusal { work, subject, .. } in self.refusals.all() {
            let is_consumed = self.sources.queues().iter().any(|queue| **queue == *subject);
            if matches!(work, Work::Fetch | Work::Etas) && !is_consumed {
                self.refusals.end(work, &subject);
            }
        }
    }
}
