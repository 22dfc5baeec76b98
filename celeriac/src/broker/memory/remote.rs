//! What remote control, events and probes ask of a server in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{MemoryBroker, Server};
use crate::broker::{BrokerDescription, KeptRevocations, ReplyAddress, RevocationBounds, Subscription};
use crate::message::Message;

/// What is revoked, with the Unix time of the revocation in seconds.
#[derive(Default)]
pub(crate) struct Revoked(BTreeMap<String, f64>);

impl Revoked {
    fn keep(&mut self, members: &[String], now: f64, bounds: RevocationBounds) {
        self.0.extend(members.iter().map(|member| (member.clone(), now)));
        self.0.retain(|_, revoked_at| *revoked_at > now - bounds.age.as_secs_f64());
        while self.0.len() > bounds.count {
            let oldest = self.0.iter().min_by(|left, right| left.1.total_cmp(right.1));
            let Some(oldest) = oldest.map(|(member, _)| member.clone()) else { return };
            self.0.remove(&oldest);
        }
    }

    fn since(&self, since: f64) -> Vec<(String, f64)> {
        let late = self.0.iter().filter(|(_, revoked_at)| **revoked_at >= since);
        late.map(|(member, revoked_at)| (member.clone(), *revoked_at)).collect()
    }
}

/// The answers to one request; nobody gets further ones when it is dropped.
pub(crate) struct ReplyQueue {
    server: Arc<Server>,
    address: ReplyAddress,
    answers: mpsc::Receiver<Message>,
}

impl ReplyQueue {
    /// Returns the next answer; `None` when none has come until the deadline.
    pub(crate) async fn next(&mut self, deadline: Instant) -> Option<Message> {
        tokio::time::timeout_at(deadline, self.answers.recv()).await.ok().flatten()
    }
}

impl Drop for ReplyQueue {
    fn drop(&mut self) {
        self.answers.close();
        // An exchange forgets a listener that has left when it tells the others.
        self.server.change(|state| state.forget_listeners(&self.address.exchange));
    }
}

impl MemoryBroker {
    /// Publishes a message to whoever listens, and returns how many do.
    pub(crate) fn broadcast(&self, message: &Message) -> u64 {
        let to = &message.properties.delivery_info;
        self.server.change(|state| {
            let listeners = state.listeners(&to.exchange, &to.routing_key);
            state.publish(message);
            listeners
        })
    }

    /// Listens to exchanges.
    pub(crate) fn subscribe(&self, topics: &[(&str, &str)]) -> Subscription {
        Subscription::new(self.server.change(|state| state.subscribe(topics)), CancellationToken::new())
    }

    /// Opens a reply queue and broadcasts the request; returns the queue, and how many nodes listen.
    pub(crate) fn ask(&self, address: ReplyAddress, request: &Message) -> (ReplyQueue, u64) {
        let topic = (address.exchange.as_str(), address.routing_key.as_str());
        let answers = self.server.change(|state| state.subscribe(&[topic]));
        let listeners = self.broadcast(request);
        (ReplyQueue { server: Arc::clone(&self.server), address, answers }, listeners)
    }

    /// Publishes an answer.
    pub(crate) fn answer(&self, address: &ReplyAddress, message: &Message) {
        self.server.change(|state| state.tell(&address.exchange, &address.routing_key, message));
    }

    /// Keeps ids of revoked tasks, as of now.
    pub(crate) fn keep_revoked(&self, ids: &[String], bounds: RevocationBounds) {
        self.server.change(|state| state.revoked.keep(ids, unix(state.now), bounds));
    }

    /// Keeps revoked stamps, as of now.
    pub(crate) fn keep_revoked_stamps(&self, stamps: &[String], bounds: RevocationBounds) {
        self.server.change(|state| state.revoked_stamps.keep(stamps, unix(state.now), bounds));
    }

    /// Dates a revocation back, if it is kept with a later time.
    pub(crate) fn date_back_revoked(&self, id: &str, revoked_at: f64) {
        self.server.change(|state| {
            if let Some(kept) = state.revoked.0.get_mut(id) {
                *kept = kept.min(revoked_at);
            }
        });
    }

    /// Returns what was revoked at or after that Unix time.
    pub(crate) fn revoked_since(&self, since: f64) -> KeptRevocations {
        self.server.read(|state| KeptRevocations {
            ids: state.revoked.since(since),
            stamps: state.revoked_stamps.since(since),
        })
    }

    /// Describes the server.
    pub(crate) fn describe(&self) -> BrokerDescription {
        let virtual_host = self.server.name().to_owned();
        BrokerDescription { transport: "memory", hostname: "localhost".to_owned(), port: 0, virtual_host }
    }
}

fn unix(time: chrono::DateTime<chrono::Utc>) -> f64 {
    time.timestamp_micros() as f64 / 1e6
}
