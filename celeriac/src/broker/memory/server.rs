//! One server in memory, found by its name.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;

use super::state::{Answer, State, Write};
use crate::clock::Clock;
use crate::config::Url;

/// The servers of this process that somebody uses, by name.
static SERVERS: LazyLock<Mutex<HashMap<String, Weak<Server>>>> = LazyLock::new(Mutex::default);

/// A server that keeps messages and results in memory.
///
/// Whatever it is asked happens under one lock: a batch is seen by others as a whole or not at all.
pub(crate) struct Server {
    name: String,
    has_limits_of_amqp: bool,
    clock: Clock,
    state: Mutex<State>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
    /// Counts the turns of the consumers' loops.
    turns: watch::Sender<u64>,
}

impl Server {
    /// Returns the server that a URL names; the first to name it makes it.
    pub(crate) fn named(url: &Url) -> Arc<Self> {
        let (_, location) = url.expose().split_once("://").unwrap_or_default();
        let (name, query) = location.split_once('?').unwrap_or((location, ""));
        let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|_, server| server.strong_count() > 0);
        if let Some(server) = servers.get(name).and_then(Weak::upgrade) {
            return server;
        }
        let options = || query.split('&').filter_map(|option| option.split_once('='));
        let has = |name: &str, value: &str| options().any(|option| option == (name, value));
        let is_simulated = has("clock", "simulated");
        let clock = if is_simulated { Clock::simulated(chrono::Utc::now()) } else { Clock::default() };
        let server = Arc::new(Self {
            name: name.to_owned(),
            has_limits_of_amqp: has("limits", "amqp"),
            state: Mutex::new(State::new(clock.now(), has("limits", "amqp"))),
            clock,
            changes: watch::Sender::new(0),
            turns: watch::Sender::new(0),
        });
        servers.insert(name.to_owned(), Arc::downgrade(&server));
        server
    }

    /// Returns its clock, by which everybody goes who uses it.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has no more than an AMQP broker.
    pub(crate) fn has_limits_of_amqp(&self) -> bool {
        self.has_limits_of_amqp
    }

    /// Reads something.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.lock())
    }

    /// Changes something, and tells everybody who waits for changes.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.tell();
        changed
    }

    /// Carries out writes, all of them in one step, and returns their answers.
    pub(crate) fn carry_out(&self, writes: &[Write]) -> Vec<Answer> {
        if writes.is_empty() {
            return Vec::new();
        }
        self.change(|state| writes.iter().map(|write| write.apply(state)).collect())
    }

    /// Tells everybody who waits for changes to look again.
    pub(crate) fn tell(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// Returns what sees each later change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Counts a turn of a consumer, which it makes after each change and whenever its worker is done with a task.
    pub(crate) fn count_turn(&self) {
        self.turns.send_modify(|turns| *turns = turns.wrapping_add(1));
    }

    /// Returns what sees each later turn of a consumer.
    pub(crate) fn turns(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now = self.clock.now();
        state
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "memory://{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_server_as_long_as_somebody_uses_it() {
        let url = Url::new("memory://server-test");
        let first = Server::named(&url);
        first.change(|state| state.bind("e", "direct", "k", "q"));
        assert!(Arc::ptr_eq(&first, &Server::named(&Url::new("memory://server-test?limits=amqp"))));
        assert_eq!(first.to_string(), "memory://server-test");
        drop(first);
        let again = Server::named(&Url::new("memory://server-test?limits=amqp"));
        assert!(again.has_limits_of_amqp());
        assert!(again.read(|state| state.exchanges.is_empty()));
    }
}
