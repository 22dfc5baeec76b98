//! How long a worker goes on trying to reach its broker.

use super::BrokerError;
use crate::config::Config;

/// What `broker_connection_retry`, `broker_connection_retry_on_startup` and `broker_connection_max_retries` say.
///
/// Source: celery 5.7 `celery/worker/consumer/consumer.py`. Without a limit where Celery's default limit of 100 is not
/// confirmed by a setting: a worker that gave up would have to be started again by hand.
#[derive(Clone, Debug)]
pub(crate) struct Persistence {
    on_startup: bool,
    later: bool,
    /// Tries after the first failed one.
    retries: Option<u32>,
    /// Whether the broker was ever reached.
    reached: bool,
    failures: u32,
}

impl Persistence {
    pub(crate) fn new(config: &Config) -> Self {
        let limited = config.is_given("broker_connection_max_retries");
        Self {
            on_startup: config.broker_connection_retry_on_startup.unwrap_or(config.broker_connection_retry),
            later: config.broker_connection_retry,
            retries: config.broker_connection_max_retries.filter(|limit| limited && *limit > 0),
            reached: false,
            failures: 0,
        }
    }

    /// Notes that the broker was reached.
    pub(crate) fn reached(&mut self) {
        self.reached = true;
        self.failures = 0;
    }

    /// Notes that it was lost or not reached.
    ///
    /// # Errors
    /// [`BrokerError::GaveUp`] when it is not to be tried again.
    pub(crate) fn failed(&mut self, url: impl ToString, reason: &str) -> Result<(), BrokerError> {
        self.failures += 1;
        let wanted = if self.reached { self.later } else { self.on_startup };
        if wanted && self.retries.is_none_or(|retries| self.failures <= retries) {
            return Ok(());
        }
        Err(BrokerError::GaveUp { url: url.to_string(), attempts: self.failures, reason: reason.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn persistence(settings: &[(&str, &str)]) -> Persistence {
        let mut config = Config::default();
        settings.iter().for_each(|(name, value)| config.set(name, value).unwrap());
        Persistence::new(&config)
    }

    fn failures(persistence: &mut Persistence) -> usize {
        (0..1000).take_while(|_| persistence.failed("redis://h", "refused").is_ok()).count()
    }

    #[test]
    fn the_settings_say_when_to_give_up() {
        assert_eq!(failures(&mut persistence(&[])), 1000);
        assert_eq!(failures(&mut persistence(&[("broker_connection_max_retries", "0")])), 1000);
        assert_eq!(failures(&mut persistence(&[("broker_connection_max_retries", "3")])), 3);
        assert_eq!(failures(&mut persistence(&[("broker_connection_retry", "false")])), 0);
        let mut startup = persistence(&[("broker_connection_retry_on_startup", "false")]);
        assert_eq!(failures(&mut startup.clone()), 0);
        startup.reached();
        assert_eq!(failures(&mut startup), 1000);
        let mut later = persistence(&[
            ("broker_connection_retry", "false"),
            ("broker_connection_retry_on_startup", "true"),
        ]);
        assert_eq!(failures(&mut later.clone()), 1000);
        later.reached();
        assert_eq!(failures(&mut later), 0);
    }
}
