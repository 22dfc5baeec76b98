//! One sweep: where messages go back to, asked once each, and what had to stay.

use std::collections::HashMap;

use redis::Value;

use crate::broker::BrokerError;
use crate::broker::redis::Queues;
use crate::broker::redis::connection::server_error;
use crate::broker::redis::refusal::is_passing;
use crate::broker::redis::script::bytes;
use crate::broker::refusal::code;
use crate::broker::refusals::{Effect, Refusal, Work};
use crate::message::envelope;

/// The state of one sweep.
pub(super) struct Round {
    queues: Queues,
    lost_and_found: String,
    /// The queues by exchange and routing key, or why they cannot be asked for.
    routes: HashMap<(String, String), Result<Vec<String>, String>>,
    /// The lists that refuse messages, with their queue and the reason.
    closed: HashMap<String, (String, String)>,
    /// How many messages went back.
    pub(super) restored: u64,
    /// What refuses messages, by queue or exchange.
    pub(super) refused: Vec<Refusal>,
    /// How many values of `unacked` are not messages, and the tag of one.
    pub(super) foreign: Option<(u64, String)>,
    /// The keys that cannot be read.
    pub(super) unread: Vec<Refusal>,
}

/// A message and the lists to which it goes back.
pub(super) struct Return {
    /// The message, marked as one that was delivered before.
    pub(super) payload: Vec<u8>,
    /// The keys of the lists.
    pub(super) lists: Vec<String>,
    /// Their queues.
    queues: Vec<String>,
}

/// What the server did with a message.
pub(super) enum Answer {
    /// It went back.
    Restored,
    /// Somebody else acknowledged, renewed or moved it.
    Gone,
    /// It stays, as that list refuses it.
    Refused(String),
}

impl Round {
    pub(super) fn new(queues: Queues, lost_and_found: String) -> Self {
        Self {
            queues,
            lost_and_found,
            routes: HashMap::new(),
            closed: HashMap::new(),
            restored: 0,
            refused: Vec::new(),
            foreign: None,
            unread: Vec::new(),
        }
    }

    /// Returns where a message goes back to; the name of the list or exchange that is known to refuse it otherwise.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] and [`BrokerError::Timeout`], and [`BrokerError::Refused`] if the server refuses
    /// everything for now.
    pub(super) async fn route(
        &mut self,
        raw: &[u8],
        exchange: String,
        routing_key: String,
    ) -> Result<Result<Return, String>, BrokerError> {
        let priority = envelope::decode(raw).ok().and_then(|message| message.properties.priority);
        let queues = match self.queues(exchange, routing_key).await? {
            Ok(queues) => queues,
            Err(exchange) => return Ok(Err(exchange)),
        };
        let keys = self.queues.keys();
        let lists: Vec<String> =
            queues.iter().map(|queue| keys.queue(queue, priority.unwrap_or(0))).collect();
        if let Some(list) = lists.iter().find(|list| self.closed.contains_key(*list)).cloned() {
            self.is_closed(&list);
            return Ok(Err(list));
        }
        let payload = envelope::mark_redelivered(raw).unwrap_or_else(|_| raw.to_vec());
        Ok(Ok(Return { payload, lists, queues }))
    }

    async fn queues(
        &mut self,
        exchange: String,
        routing_key: String,
    ) -> Result<Result<Vec<String>, String>, BrokerError> {
        let route = (exchange, routing_key);
        if !self.routes.contains_key(&route) {
            let queues = match self.ask(&route.0, &route.1).await {
                Err(BrokerError::Refused { reason, .. }) if !is_passing(&reason) => Err(reason),
                queues => Ok(queues?),
            };
            self.routes.insert(route.clone(), queues);
        }
        match self.routes[&route].clone() {
            Ok(queues) => Ok(Ok(queues)),
            Err(reason) => {
                self.refuse(&route.0, reason);
                Ok(Err(route.0))
            }
        }
    }

    async fn ask(&self, exchange: &str, routing_key: &str) -> Result<Vec<String>, BrokerError> {
        let mut queues = match exchange.is_empty() {
            true => Vec::new(),
            false => self.queues.route(exchange, routing_key).await?,
        };
        if queues.is_empty() {
            let name = if routing_key.is_empty() { &self.lost_and_found } else { routing_key };
            queues.push(name.to_owned());
        }
        Ok(queues)
    }

    /// Returns whether a list is known to refuse messages, and counts one more for it.
    pub(super) fn is_closed(&mut self, list: &str) -> bool {
        let Some((queue, reason)) = self.closed.get(list).cloned() else { return false };
        self.refuse(&queue, reason);
        true
    }

    /// Reads the reply of a script that moves a message: 1, 0, or the number of the list that refused it and why.
    ///
    /// # Errors
    /// The server's words, if it refuses everything for now.
    pub(super) fn answer(&mut self, reply: &Value, back: &Return) -> Result<Answer, String> {
        let (place, reason) = match reply {
            Value::Int(1) => {
                self.restored += 1;
                return Ok(Answer::Restored);
            }
            Value::Array(items) => match items.as_slice() {
                [Value::Int(place), reason] => {
                    let reason = String::from_utf8_lossy(bytes(reason).unwrap_or_default()).into_owned();
                    (usize::try_from(*place).unwrap_or(0), reason)
                }
                _ => return Ok(Answer::Gone),
            },
            reply => match server_error(reply) {
                Some(reason) => (0, reason),
                None => return Ok(Answer::Gone),
            },
        };
        // Errors that a script catches may bear the mark of the protocol.
        let reason = reason.trim_start_matches('-').to_owned();
        if is_passing(&reason) {
            return Err(reason);
        }
        let place = place.min(back.lists.len().saturating_sub(1));
        self.closed.insert(back.lists[place].clone(), (back.queues[place].clone(), reason.clone()));
        self.refuse(&back.queues[place], reason);
        Ok(Answer::Refused(back.lists[place].clone()))
    }

    /// Counts a message that a queue or exchange refuses.
    fn refuse(&mut self, subject: &str, reason: String) {
        // What this user may not write to belongs to others, who bring it back.
        let effect = if code(&reason) == "NOPERM" { Effect::None } else { Effect::Unready };
        match self.refused.iter_mut().find(|refusal| refusal.subject == subject) {
            Some(refusal) => refusal.count += 1,
            None => self.refused.push(Refusal::new(Work::Restore, subject, reason).with(effect)),
        }
    }

    /// Counts a value of `unacked` that is not a message.
    pub(super) fn note_foreign(&mut self, tag: &[u8]) {
        match &mut self.foreign {
            Some((count, _)) => *count += 1,
            None => self.foreign = Some((1, String::from_utf8_lossy(tag).into_owned())),
        }
    }

    /// Notes a key that cannot be read.
    ///
    /// # Errors
    /// The error itself, unless it is about that key alone.
    pub(super) fn note_unread(&mut self, key: &str, error: BrokerError) -> Result<(), BrokerError> {
        match error {
            BrokerError::Refused { reason, .. } if !is_passing(&reason) => {
                self.unread.push(Refusal::new(Work::Sweep, key, reason));
                Ok(())
            }
            error => Err(error),
        }
    }
}
