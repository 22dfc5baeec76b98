//! Trying a publish again (`task_publish_retry_policy`).

use std::time::Duration;

use serde_json::{Value, json};

use super::value::SettingValue;

/// The policy for trying a publish again; times are those of kombu's `retry_over_time`.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishRetryPolicy {
    /// Tries after the first; `None` goes on for ever.
    pub max_retries: Option<u32>,
    /// Pause before the first retry.
    pub interval_start: Duration,
    /// The seconds that each further pause adds.
    pub interval_step: Duration,
    /// The longest pause.
    pub interval_max: Duration,
}

impl PublishRetryPolicy {
    /// The pause before the retry of this number (from 0), or `None` when there is none left.
    pub fn pause(&self, retry: u32) -> Option<Duration> {
        if self.max_retries.is_some_and(|max| retry >= max) {
            return None;
        }
        let pause =
            self.interval_step.checked_mul(retry).and_then(|added| added.checked_add(self.interval_start));
        Some(pause.unwrap_or(self.interval_max).min(self.interval_max))
    }
}

impl Default for PublishRetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: Some(3),
            interval_start: Duration::ZERO,
            interval_step: Duration::from_millis(200),
            interval_max: Duration::from_secs(1),
        }
    }
}

impl SettingValue for PublishRetryPolicy {
    fn expected() -> String {
        "a mapping with max_retries, interval_start, interval_step, interval_max (numbers; intervals in seconds)".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        let mut policy = Self::default();
        for (key, value) in value.as_object().ok_or_else(Self::expected)? {
            match key.as_str() {
                "max_retries" => {
                    policy.max_retries = Option::from_json(value).map_err(|_| Self::expected())?
                }
                "interval_start" => policy.interval_start = seconds(value)?,
                "interval_step" => policy.interval_step = seconds(value)?,
                "interval_max" => policy.interval_max = seconds(value)?,
                "retry_errors" => {}
                _ => return Err(Self::expected()),
            }
        }
        Ok(policy)
    }

    fn to_json(&self) -> Value {
        json!({
            "max_retries": self.max_retries,
            "interval_start": self.interval_start.to_json(),
            "interval_max": self.interval_max.to_json(),
            "interval_step": self.interval_step.to_json(),
        })
    }
}

fn seconds(value: &Value) -> Result<Duration, String> {
    Duration::from_json(value).map_err(|_| PublishRetryPolicy::expected())
}
