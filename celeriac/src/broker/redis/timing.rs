//! How long things may take on a connection.

use std::time::Duration;

use crate::config::{Config, TransportOptions};

/// How long a server may be silent although something is expected of it.
const SILENCE: Duration = Duration::from_secs(3);
/// How often a connection on which nothing is expected is asked for a sign of life.
const HEALTH_CHECK: Duration = Duration::from_secs(1);

/// How long things may take on a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Finding the server, reaching it and logging in.
    pub(crate) connect: Duration,
    /// The longest silence of a server that owes a reply. A long reply is no silence.
    pub(crate) silence: Duration,
    /// How often a subscription is asked for a sign of life.
    pub(crate) health_check: Duration,
    /// Whether the kernel looks after idle TCP connections.
    pub(crate) keepalive: bool,
}

impl Timing {
    /// For connections to the broker: `broker_connection_timeout`, and of the `broker_transport_options`
    /// `socket_timeout`, `socket_connect_timeout`, `health_check_interval`, `socket_keepalive`.
    pub fn broker(config: &Config) -> Self {
        Self {
            connect: config.broker_connection_timeout,
            silence: SILENCE,
            health_check: HEALTH_CHECK,
            keepalive: true,
        }
        .with(&config.broker_transport_options)
    }

    /// For connections to the result backend: `redis_socket_timeout`, `redis_socket_connect_timeout`, and the
    /// `result_backend_transport_options` as for the broker.
    ///
    /// Celery's defaults count as unset: 120 s of silence, and no keepalive, would leave a dead connection in use.
    pub fn result_backend(config: &Config) -> Self {
        let given = |name| config.is_given(name);
        let silence = config.redis_socket_timeout.filter(|_| given("redis_socket_timeout"));
        Self {
            connect: config.redis_socket_connect_timeout.unwrap_or(config.broker_connection_timeout),
            silence: silence.unwrap_or(SILENCE),
            health_check: HEALTH_CHECK,
            keepalive: config.redis_socket_keepalive || !given("redis_socket_keepalive"),
        }
        .with(&config.result_backend_transport_options)
    }

    fn with(self, options: &TransportOptions) -> Self {
        let positive = |name| options.seconds(name).filter(|time| !time.is_zero());
        Self {
            connect: positive("socket_connect_timeout").unwrap_or(self.connect),
            silence: positive("socket_timeout").unwrap_or(self.silence),
            health_check: positive("health_check_interval").unwrap_or(self.health_check),
            keepalive: options.flag("socket_keepalive").unwrap_or(self.keepalive),
        }
    }
}
