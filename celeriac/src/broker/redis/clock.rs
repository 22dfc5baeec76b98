//! The server's clock, carried on by the local monotonic one, so that a jump of a worker's clock moves no deadline.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use redis::Value;

/// What time it is on the server.
pub(crate) struct ServerClock {
    base: f64,
    taken: Instant,
}

impl Default for ServerClock {
    fn default() -> Self {
        let base = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64());
        Self { base, taken: Instant::now() }
    }
}

impl ServerClock {
    /// Takes the reply to `TIME`.
    pub(crate) fn set(&mut self, reply: &Value) {
        let Value::Array(parts) = reply else { return };
        let number = |index: usize| match parts.get(index) {
            Some(Value::BulkString(text)) => std::str::from_utf8(text).ok()?.parse::<f64>().ok(),
            Some(Value::Int(number)) => Some(*number as f64),
            _ => None,
        };
        if let (Some(seconds), Some(micros)) = (number(0), number(1)) {
            *self = Self { base: seconds + micros / 1e6, taken: Instant::now() };
        }
    }

    /// Unix time in seconds.
    pub(crate) fn now(&self) -> f64 {
        self.base + self.taken.elapsed().as_secs_f64()
    }
}
