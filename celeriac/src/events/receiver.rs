//! Reading events.

use std::collections::VecDeque;

use super::clock::LogicalClock;
use super::event::Event;
use super::software::{unix_now, utc_offset};
use crate::broker::{Broker, Subscription};
use crate::message::{Accept, Message, Value};

/// Receives events, reconnecting by itself; what is sent while the broker is away is not received.
///
/// Source: celery 5.7 `celery/events/receiver.py`.
pub struct Receiver {
    subscription: Subscription,
    accept: Accept,
    clock: LogicalClock,
    ready: VecDeque<Event>,
}

impl Receiver {
    /// Listens to an exchange of events (`event_exchange`) for those of a routing key: `#` for all, `worker.#`,
    /// `task.#`.
    ///
    /// Returns once the server has confirmed it, or after the first attempt that failed.
    ///
    /// Cancel safe: what was subscribed to is given up.
    pub async fn open(broker: &Broker, exchange: &str, routing_key: &str, clock: LogicalClock) -> Self {
        let subscription = broker.subscribe(&[(exchange, routing_key)]).await;
        Self { subscription, accept: Accept::all(), clock, ready: VecDeque::new() }
    }

    /// Reads signed and encrypted events too.
    pub(crate) fn accepting(mut self, accept: Accept) -> Self {
        self.accept = accept;
        self
    }

    /// The next event.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let message = self.subscription.next().await?;
            self.ready.extend(events_of(&message, &self.accept, &self.clock));
        }
    }
}

/// The events in a message, the clock moved past them and their times made local.
pub(crate) fn events_of(message: &Message, accept: &Accept, clock: &LogicalClock) -> Vec<Event> {
    let payload = match message.payload(accept) {
        Ok(payload) => payload,
        Err(error) => {
            log::warn!(error:% = error; "Events cannot be read: {error}");
            return Vec::new();
        }
    };
    let bodies = if let Value::List(bodies) = payload { bodies } else { vec![payload] };
    bodies.into_iter().filter_map(|body| prepare(body, clock)).collect()
}

fn prepare(body: Value, clock: &LogicalClock) -> Option<Event> {
    let Value::Map(mut fields) = body else {
        log::warn!("An event that is no object was left out");
        return None;
    };
    let is_sent = fields.get("type").and_then(Value::as_str) == Some("task-sent");
    let sent_at = fields.get("clock").and_then(Value::as_i64).and_then(|clock| u64::try_from(clock).ok());
    match sent_at {
        // Clients do not synchronise their clocks.
        _ if is_sent => {
            let now = clock.value().max(1) - 1;
            fields.insert("clock".to_owned(), now.into());
            clock.adjust(now);
        }
        Some(sent_at) => {
            clock.adjust(sent_at);
        }
        None => {
            fields.insert("clock".to_owned(), clock.forward().into());
        }
    }
    let offset = fields.get("utcoffset").and_then(Value::as_f64);
    if let (Some(offset), Some(timestamp)) = (offset, fields.get("timestamp").and_then(Value::as_f64)) {
        let local = timestamp - (offset - utc_offset()) * 3600.0;
        fields.insert("timestamp".to_owned(), local.into());
    }
    let event = Event::new(fields, unix_now());
    if event.is_none() {
        log::warn!("An event without a type was left out");
    }
    event
}
