//! Notes that a worker keeps at the broker besides messages: starts of messages that came back, runs of beat, and bodies of
//! chords sent.

use redis::{Cmd, Pipeline, cmd};

use super::Queues;
use super::script::texts;
use crate::broker::{BrokerError, DeadLetter, DeadReason, Start};
use crate::message::{Message, envelope};

/// How long the starts of a message are remembered, in seconds: a week.
const STARTS_SECONDS: u64 = 7 * 86_400;
/// The time for which it is remembered which message brought a run of beat, in seconds: a day.
const RUN_SECONDS: u64 = 86_400;
/// How long it is remembered that the body of a chord was sent, in seconds.
const SENT_SECONDS: u64 = 3600;

impl Queues {
    /// Notes another start of a message, and returns all that are noted.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn count_start(
        &self,
        delivery_tag: &str,
        start: &Start,
    ) -> Result<Vec<Start>, BrokerError> {
        let key = self.keys().deliveries(delivery_tag);
        // Texts always have a form in JSON.
        let start = serde_json::to_vec(start).unwrap_or_default();
        let mut note = Pipeline::new();
        note.atomic();
        note.cmd("RPUSH").arg(&key).arg(start).ignore();
        note.cmd("EXPIRE").arg(&key).arg(STARTS_SECONDS).ignore();
        note.cmd("LRANGE").arg(&key).arg(0).arg(-1);
        let replies = self.link().call(&mut note).await?;
        let starts = replies.first().map(texts).unwrap_or_default();
        Ok(starts.iter().filter_map(|start| serde_json::from_str(start).ok()).collect())
    }

    /// Returns the command that forgets the starts of a message.
    pub(crate) fn forget_starts(&self, delivery_tag: &str) -> Cmd {
        let mut forget = cmd("DEL");
        forget.arg(self.keys().deliveries(delivery_tag));
        forget
    }

    /// Notes which message brought a run of beat; `false` when it was another one.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn claim_run(&self, id: &str, delivery_tag: &str) -> Result<bool, BrokerError> {
        let key = self.keys().run(id);
        let mut claim = Pipeline::new();
        claim.cmd("SET").arg(&key).arg(delivery_tag).arg("NX").arg("EX").arg(RUN_SECONDS).ignore();
        claim.cmd("GET").arg(&key);
        let replies = self.link().call(&mut claim).await?;
        Ok(match replies.last() {
            Some(redis::Value::BulkString(tag)) => tag == delivery_tag.as_bytes(),
            _ => true,
        })
    }

    /// Returns the command that marks the body of a chord as sent; its reply is nothing if it is marked already.
    pub(crate) fn mark_sent(&self, group_id: &str, delivery_tag: &str) -> Cmd {
        let mut mark = cmd("SET");
        mark.arg(self.keys().sent(group_id, delivery_tag)).arg(1).arg("NX").arg("EX").arg(SENT_SECONDS);
        mark
    }

    /// Returns the commands that keep a message among the dead letters; none when they are switched off.
    pub(crate) fn letter(
        &self,
        reason: DeadReason,
        message: &Message,
        queue: &str,
        hostname: &str,
    ) -> Vec<Cmd> {
        let Some(dead) = self.dead_letters() else { return Vec::new() };
        let list = self.keys().queue(queue, message.properties.priority.unwrap_or(0));
        let letter = DeadLetter::new(reason, list, hostname, Vec::new(), &envelope::encode(message));
        dead.push(&letter).into()
    }
}
