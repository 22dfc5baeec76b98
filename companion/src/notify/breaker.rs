use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// So many failures in a row open the circuit.
const FAILURES: u32 = 5;
/// How long an open circuit keeps messages back before one of them tries.
const OPEN_FOR: Duration = Duration::from_secs(15);

/// A circuit breaker: a channel that does not work is left alone for a while, so that nobody waits for it in vain.
#[derive(Debug)]
pub(super) struct Breaker {
    channel: &'static str,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    failures: u32,
    /// Until when nobody tries; the first one after that does.
    open_until: Option<Instant>,
}

impl Breaker {
    pub(super) fn new(channel: &'static str) -> Self {
        Self { channel, state: Mutex::new(State { failures: 0, open_until: None }) }
    }

    /// Returns how long the channel is to be left alone; nothing when a message may be sent now.
    pub(super) fn refuses(&self) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = state.open_until?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // This message tries; the others wait for what comes of it.
            state.open_until = Some(Instant::now() + OPEN_FOR);
            return None;
        }
        Some(left)
    }

    /// Notes that the channel has answered, be it with a refusal.
    pub(super) fn works(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.open_until.take().is_some() {
            log::info!(channel = self.channel, failures = state.failures; "Channel {} works again", self.channel);
        }
        state.failures = 0;
    }

    /// Notes that the channel did not work.
    pub(super) fn failed(&self, reason: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures += 1;
        if state.failures < FAILURES {
            return;
        }
        if state.open_until.is_none() {
            log::warn!(channel = self.channel, failures = state.failures, error = reason;
                "Channel {} does not work and is left alone; it is tried every {} s: {reason}",
                self.channel, OPEN_FOR.as_secs());
        }
        state.open_until = Some(Instant::now() + OPEN_FOR);
    }
}
