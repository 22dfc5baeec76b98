//! How long things may take on a connection.

use std::time::Duration;

use super::dial::Keepalive;
use crate::config::{Config, TransportOptions};

/// How long a server may be silent although something is expected of it.
const SILENCE: Duration = Duration::from_secs(3);
/// How often a connection on which nothing is expected is asked for a sign of life.
const HEALTH_CHECK: Duration = Duration::from_secs(1);

/// The time for connecting where it has no limit: no connection is worth waiting a year for.
const UNLIMITED: Duration = Duration::from_secs(365 * 86_400);

/// How long things may take on a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Finding the server, reaching it and logging in.
    pub(crate) connect: Duration,
    /// The longest silence of a server that owes a reply. A long reply is no silence.
    pub(crate) silence: Duration,
    /// How often a subscription is asked for a sign of life.
    pub(crate) health_check: Duration,
    /// How the kernel looks after idle TCP connections, if it does.
    pub(crate) keepalive: Option<Keepalive>,
}

impl Timing {
    /// For connections to the broker: `broker_connection_timeout`, and of the `broker_transport_options`
    /// `socket_timeout`, `socket_connect_timeout`, `health_check_interval`, `socket_keepalive` and its options.
    pub fn broker(config: &Config) -> Self {
        Self {
            connect: some(config.broker_connection_timeout).unwrap_or(UNLIMITED),
            silence: SILENCE,
            health_check: HEALTH_CHECK,
            keepalive: Some(Keepalive::default()),
        }
        .with(&config.broker_transport_options)
    }

    /// For connections to the result backend: `redis_socket_timeout`, `redis_socket_connect_timeout`, and the
    /// `result_backend_transport_options` as for the broker.
    ///
    /// Celery's defaults count as unset: 120 s of silence, and no keepalive, would leave a dead connection in use.
    pub fn result_backend(config: &Config) -> Self {
        let given = |name| config.is_given(name);
        let silence = config.redis_socket_timeout.filter(|_| given("redis_socket_timeout")).and_then(some);
        Self {
            connect: config
                .redis_socket_connect_timeout
                .and_then(some)
                .or(some(config.broker_connection_timeout))
                .unwrap_or(UNLIMITED),
            silence: silence.unwrap_or(SILENCE),
            health_check: config.redis_backend_health_check_interval.and_then(some).unwrap_or(HEALTH_CHECK),
            keepalive: (config.redis_socket_keepalive || !given("redis_socket_keepalive"))
                .then(Keepalive::default),
        }
        .with(&config.result_backend_transport_options)
    }

    fn with(self, options: &TransportOptions) -> Self {
        let positive = |name| options.seconds_above_zero(name);
        let keepalive = match options.flag("socket_keepalive") {
            Some(false) => None,
            Some(true) => Some(self.keepalive.unwrap_or_default()),
            None => self.keepalive,
        };
        Self {
            connect: positive("socket_connect_timeout").unwrap_or(self.connect),
            silence: positive("socket_timeout").unwrap_or(self.silence),
            health_check: positive("health_check_interval").unwrap_or(self.health_check),
            keepalive: keepalive.map(|keepalive| keepalive.with(&options.keepalive_options())),
        }
    }
}

/// A time that is not 0, which stands for none.
fn some(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| !time.is_zero())
}
