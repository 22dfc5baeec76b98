//! Remote control and events in memory.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::MemoryBroker;
use crate::broker::{
    BrokerDescription, DeadLetterCount, KeptRevocations, ReplyAddress, RevocationBounds, Subscription,
};
use crate::message::Message;

/// Most messages that wait for a slow listener.
const BUFFER: usize = 10_000;

/// The answers to one request.
pub(crate) struct ReplyQueue(mpsc::Receiver<Message>);

impl ReplyQueue {
    /// Returns the next answer; `None` when none has come until the deadline.
    pub(crate) async fn next(&mut self, deadline: Instant) -> Option<Message> {
        timeout_at(deadline, self.0.recv()).await.ok().flatten()
    }
}

impl MemoryBroker {
    /// Publishes a message to everybody who listens now; how many do is not counted.
    pub(crate) fn broadcast(&self, message: &Message) -> Option<u64> {
        self.server.change(|state| state.publish(message));
        None
    }

    /// Listens to exchanges, each with a routing key.
    pub(crate) fn listen(&self, topics: &[(&str, &str)]) -> Subscription {
        let (sender, messages) = mpsc::channel(BUFFER);
        let stop = CancellationToken::new();
        for (exchange, routing_key) in topics {
            let (mut heard, sender) = (self.subscribe(exchange, routing_key), sender.clone());
            let hearing = async move {
                while let Some(message) = heard.recv().await {
                    if sender.send(message).await.is_err() {
                        return;
                    }
                }
            };
            let stop = stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(hearing).await });
        }
        Subscription::new(messages, stop)
    }

    /// Opens a reply queue and broadcasts the request whose answers it takes.
    pub(crate) fn ask(&self, address: &ReplyAddress, request: &Message) -> (ReplyQueue, Option<u64>) {
        let queue = ReplyQueue(self.subscribe(&address.exchange, &address.routing_key));
        (queue, self.broadcast(request))
    }

    /// Publishes an answer to a reply queue.
    pub(crate) fn answer(&self, address: &ReplyAddress, message: &Message) {
        let mut message = message.clone();
        message.properties.delivery_info.exchange.clone_from(&address.exchange);
        message.properties.delivery_info.routing_key.clone_from(&address.routing_key);
        self.broadcast(&message);
    }

    /// Keeps ids of revoked tasks, as of now.
    pub(crate) fn keep_revoked(&self, ids: &[String], bounds: RevocationBounds) {
        self.server.change(|state| {
            let now = unix(state.now);
            keep(&mut state.revocations.ids, ids, now, bounds);
        });
    }

    /// Keeps revoked stamps, as of now.
    pub(crate) fn keep_revoked_stamps(&self, stamps: &[String], bounds: RevocationBounds) {
        self.server.change(|state| {
            let now = unix(state.now);
            keep(&mut state.revocations.stamps, stamps, now, bounds);
        });
    }

    /// Dates the revocation of an id back.
    pub(crate) fn date_back_revoked(&self, id: &str, revoked_at: f64) {
        self.server.change(|state| {
            let kept = state.revocations.ids.iter_mut().find(|(known, _)| known == id);
            if let Some((_, time)) = kept {
                *time = time.min(revoked_at);
            }
        });
    }

    /// Returns what was revoked at or after that Unix time.
    pub(crate) fn revoked_since(&self, since: f64) -> KeptRevocations {
        let after =
            |kept: &[(String, f64)]| kept.iter().filter(|(_, time)| *time >= since).cloned().collect();
        self.server.read(|state| KeptRevocations {
            ids: after(&state.revocations.ids),
            stamps: after(&state.revocations.stamps),
        })
    }

    /// Describes the server.
    pub(crate) fn describe(&self) -> BrokerDescription {
        BrokerDescription {
            transport: "memory",
            hostname: self.server.to_string(),
            port: 0,
            virtual_host: String::new(),
        }
    }

    /// Answers at once.
    pub(crate) fn ping(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    /// Counts the dead letters; `None` when none are kept.
    pub(crate) fn count_dead_letters(&self) -> Option<DeadLetterCount> {
        self.dead_letters?;
        let count = self.server.read(|state| state.dead_letters.len() as u64);
        Some(DeadLetterCount { count, bytes: None, dropped: 0 })
    }
}

fn unix(time: chrono::DateTime<chrono::Utc>) -> f64 {
    time.timestamp_micros() as f64 / 1e6
}

/// Keeps values with their time, within bounds.
fn keep(kept: &mut Vec<(String, f64)>, values: &[String], now: f64, bounds: RevocationBounds) {
    kept.retain(|(known, time)| !values.contains(known) && now - time < bounds.age.as_secs_f64());
    kept.extend(values.iter().map(|value| (value.clone(), now)));
    let beyond = kept.len().saturating_sub(bounds.count);
    kept.drain(..beyond);
}
