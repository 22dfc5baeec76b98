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
    /// Whether that delay is drawn at random between 0 and its value. Default true.
    pub retry_jitter: bool,
    /// Where the task runs.
    pub pool: Pool,
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
            retry_jitter: true,
            pool: Pool::Async,
        }
    }
}
