//! What a task declares about itself; everything absent falls back to the settings.

/// Options of a task, under the names of Celery's task attributes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TaskOptions {
    /// How often the task may be retried; `None` is without limit. Default 3.
    pub max_retries: Option<u32>,
    /// Seconds until a retry that names no time of its own. Default 180.
    pub default_retry_delay: f64,
    /// Whether the message is acknowledged after the task has run (`task_acks_late`).
    pub acks_late: Option<bool>,
    /// Whether a late-acked task that failed is acknowledged (`task_acks_on_failure`).
    pub acks_on_failure: Option<bool>,
    /// Whether a late-acked task that hit its time limit is acknowledged (`task_acks_on_timeout`).
    pub acks_on_timeout: Option<bool>,
    /// Whether a late-acked task is requeued when the process that ran it died (`task_reject_on_worker_lost`).
    pub reject_on_worker_lost: Option<bool>,
    /// Whether the result is dropped (`task_ignore_result`).
    pub ignore_result: Option<bool>,
    /// Whether failures are stored all the same (`task_store_errors_even_if_ignored`).
    pub store_errors_even_if_ignored: Option<bool>,
    /// Whether the state STARTED is stored (`task_track_started`).
    pub track_started: Option<bool>,
    /// Seconds after which the task is ended (`task_time_limit`).
    pub time_limit: Option<f64>,
    /// Seconds after which the task is told to end (`task_soft_time_limit`).
    pub soft_time_limit: Option<f64>,
    /// Starts per time, such as `10/m` (`task_default_rate_limit`).
    pub rate_limit: Option<String>,
    /// Queue to which clients send the task.
    pub queue: Option<String>,
    /// Exchange to which clients send the task.
    pub exchange: Option<String>,
    /// Routing key with which clients send the task.
    pub routing_key: Option<String>,
    /// Priority with which clients send the task.
    pub priority: Option<u8>,
    /// Serializer with which clients send the task.
    pub serializer: Option<String>,
    /// Compression with which clients send the task.
    pub compression: Option<String>,
    /// Seconds after which a task that has not started is dropped.
    pub expires: Option<f64>,
    /// Whether the worker sends events of this task. Default true.
    pub send_events: bool,
    /// Exception classes (`ValueError`, `requests.exceptions.Timeout`) on which the task retries by itself;
    /// `Exception` stands for all.
    pub autoretry_for: Vec<String>,
    /// Exception classes on which it does not, although `autoretry_for` names them.
    pub dont_autoretry_for: Vec<String>,
    /// Factor in seconds of the exponential delay between automatic retries; `None` uses `default_retry_delay`.
    pub retry_backoff: Option<f64>,
    /// Upper bound of that delay in seconds. Default 600.
    pub retry_backoff_max: f64,
    /// Lower bound of that delay in seconds, as rusty-celery's `min_retry_delay`. Default 0.
    pub retry_backoff_min: f64,
    /// Whether that delay is drawn at random between 0 and its value. Default true.
    pub retry_jitter: bool,
    /// Where the task runs.
    pub pool: Pool,
}

impl TaskOptions {
    /// Seconds until the next run of a task that was retried so often before, growing exponentially.
    ///
    /// `retry_backoff * 2^retries`, where a factor below 1 counts as 1, at most `retry_backoff_max`; with
    /// `retry_jitter` a random whole number up to that (celery 5.7 `celery/utils/time.py`
    /// `get_exponential_backoff_interval`); in the end at least `retry_backoff_min`.
    pub fn backoff_delay(&self, retries: u32) -> f64 {
        let factor = self.retry_backoff.unwrap_or(1.0).max(1.0).trunc();
        let exponent = i32::try_from(retries).unwrap_or(i32::MAX);
        let longest = (factor * 2f64.powi(exponent)).min(self.retry_backoff_max.floor()).max(0.0);
        let delay = if self.retry_jitter { rand::random_range(0..=longest as u64) as f64 } else { longest };
        delay.max(self.retry_backoff_min)
    }
}

/// Where a task runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pool {
    /// `async fn`: on the shared threads of the runtime.
    #[default]
    Async,
    /// `fn`: on a thread of its own while it runs.
    Blocking,
    /// In a child process that can be killed.
    Process,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            max_retries: Some(3),
            default_retry_delay: 180.0,
            acks_late: None,
            acks_on_failure: None,
            acks_on_timeout: None,
            reject_on_worker_lost: None,
            ignore_result: None,
            store_errors_even_if_ignored: None,
            track_started: None,
            time_limit: None,
            soft_time_limit: None,
            rate_limit: None,
            queue: None,
            exchange: None,
            routing_key: None,
            priority: None,
            serializer: None,
            compression: None,
            expires: None,
            send_events: true,
            autoretry_for: Vec::new(),
            dont_autoretry_for: Vec::new(),
            retry_backoff: None,
            retry_backoff_max: 600.0,
            retry_backoff_min: 0.0,
            retry_jitter: true,
            pool: Pool::Async,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_up_to_its_bound() {
        let options = TaskOptions {
            retry_backoff: Some(60.0),
            retry_backoff_max: 3600.0,
            retry_jitter: false,
            ..TaskOptions::default()
        };
        let delays: Vec<f64> = (0..8).map(|retries| options.backoff_delay(retries)).collect();
        assert_eq!(delays, [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0]);
        assert_eq!(options.backoff_delay(u32::MAX), 3600.0);
    }

    #[test]
    fn jitter_draws_whole_seconds_between_the_bounds() {
        let options = TaskOptions { retry_backoff_min: 2.0, ..TaskOptions::default() };
        for _ in 0..100 {
            let delay = options.backoff_delay(3);
            assert!((2.0..=8.0).contains(&delay) && delay.fract() == 0.0, "{delay}");
        }
    }
}
