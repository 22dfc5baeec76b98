//! Where an exchange leads: to queues that are bound to it, and to whoever listens.

use std::collections::BTreeSet;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::state::State;
use crate::message::Message;

/// Messages that may wait for a slow listener before further ones are dropped.
const BUFFER: usize = 10_000;

/// The bindings and listeners of one exchange.
#[derive(Default)]
pub(super) struct Exchange {
    bindings: BTreeSet<Binding>,
    listeners: Vec<Listener>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Binding {
    queue: String,
    key: Key,
}

/// Which routing keys a binding takes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Exactly(String),
    Matching(String),
    Any,
}

struct Listener {
    pattern: String,
    messages: mpsc::Sender<Message>,
}

impl Listener {
    fn hears(&self, routing_key: &str) -> bool {
        self.pattern.is_empty() || matches(&self.pattern, routing_key)
    }
}

impl Exchange {
    /// Returns the queues that a routing key leads to.
    pub(super) fn queues(&self, routing_key: &str) -> Vec<String> {
        let takes = |binding: &&Binding| match &binding.key {
            Key::Exactly(key) => key == routing_key,
            Key::Matching(pattern) => matches(pattern, routing_key),
            Key::Any => true,
        };
        let queues: BTreeSet<&String> =
            self.bindings.iter().filter(takes).map(|binding| &binding.queue).collect();
        queues.into_iter().cloned().collect()
    }

    /// Gives a message to those who listen for its routing key; whether anybody does.
    pub(super) fn tell(&mut self, routing_key: &str, message: &Message) -> bool {
        let mut heard = false;
        self.listeners.retain(|listener| {
            if !listener.hears(routing_key) {
                return !listener.messages.is_closed();
            }
            heard = true;
            !matches!(listener.messages.try_send(message.clone()), Err(TrySendError::Closed(_)))
        });
        heard
    }
}

impl State {
    /// Binds a queue to an exchange of that type.
    pub(crate) fn bind(&mut self, exchange: &str, exchange_type: &str, routing_key: &str, queue: &str) {
        let key = match exchange_type {
            "topic" => Key::Matching(routing_key.to_owned()),
            "fanout" => Key::Any,
            _ => Key::Exactly(routing_key.to_owned()),
        };
        let binding = Binding { queue: queue.to_owned(), key };
        self.exchanges.entry(exchange.to_owned()).or_default().bindings.insert(binding);
    }

    /// Listens to exchanges, each for the routing keys of a pattern, an empty one for any, until the receiver is dropped.
    pub(crate) fn subscribe(&mut self, topics: &[(&str, &str)]) -> mpsc::Receiver<Message> {
        let (messages, receiver) = mpsc::channel(BUFFER);
        for (exchange, pattern) in topics {
            let listener = Listener { pattern: (*pattern).to_owned(), messages: messages.clone() };
            self.exchanges.entry((*exchange).to_owned()).or_default().listeners.push(listener);
        }
        receiver
    }

    /// Gives a message to those who listen to an exchange for a routing key.
    pub(crate) fn tell(&mut self, exchange: &str, routing_key: &str, message: &Message) {
        self.exchanges.entry(exchange.to_owned()).or_default().tell(routing_key, message);
    }

    /// Returns how many listen to an exchange for a routing key.
    pub(crate) fn listeners(&mut self, exchange: &str, routing_key: &str) -> u64 {
        self.forget_listeners(exchange);
        let Some(exchange) = self.exchanges.get(exchange) else { return 0 };
        exchange.listeners.iter().filter(|listener| listener.hears(routing_key)).count() as u64
    }

    /// Forgets who listens to an exchange no longer.
    pub(crate) fn forget_listeners(&mut self, exchange: &str) {
        if let Some(exchange) = self.exchanges.get_mut(exchange) {
            exchange.listeners.retain(|listener| !listener.messages.is_closed());
        }
    }
}

/// Whether a topic pattern takes a routing key: `*` is one word, `#` any number of words.
fn matches(pattern: &str, routing_key: &str) -> bool {
    fn words(pattern: &[&str], key: &[&str]) -> bool {
        match pattern.split_first() {
            None => key.is_empty(),
            Some((&"#", rest)) => (0..=key.len()).any(|skipped| words(rest, &key[skipped..])),
            Some((word, rest)) => key
                .split_first()
                .is_some_and(|(first, key)| (*word == "*" || word == first) && words(rest, key)),
        }
    }
    let [pattern, key]: [Vec<&str>; 2] = [pattern, routing_key].map(|text| text.split('.').collect());
    words(&pattern, &key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routing_key_leads_to_the_queues_that_are_bound_for_it() {
        let mut state = State::new(chrono::Utc::now(), false);
        state.bind("topics", "topic", "a.#", "many");
        state.bind("topics", "topic", "a.*", "one");
        state.bind("topics", "topic", "*.b", "b");
        state.bind("direct", "direct", "a.#", "literal");
        state.bind("fanout", "fanout", "", "all");
        let led = |exchange: &str, key: &str| state.exchanges[exchange].queues(key);
        assert_eq!(led("topics", "a.b"), ["b", "many", "one"]);
        assert_eq!(led("topics", "a.b.c"), ["many"]);
        assert_eq!(led("topics", "c"), Vec::<String>::new());
        assert_eq!(led("direct", "a.#"), ["literal"]);
        assert_eq!(led("direct", "a.b"), Vec::<String>::new());
        assert_eq!(led("fanout", "whatever"), ["all"]);
    }

    #[test]
    fn who_listens_hears_what_its_pattern_takes_until_it_leaves() {
        let mut state = State::new(chrono::Utc::now(), false);
        let mut listener = state.subscribe(&[("events", "task.#")]);
        let exchange = state.exchanges.get_mut("events").unwrap();
        assert!(exchange.tell("task.sent", &Message::default()));
        assert!(!exchange.tell("worker.online", &Message::default()));
        assert!(listener.try_recv().is_ok());
        assert!(listener.try_recv().is_err());
        drop(listener);
        exchange.tell("task.sent", &Message::default());
        assert!(exchange.listeners.is_empty());
    }
}
