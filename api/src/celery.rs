//! The way to the workers: the few things of Celery that the API needs.

use std::time::Duration;

use celeriac::{
    Celery,
    backend::BackendError,
    broker::{
        BrokerError,
        redis::{Endpoint, Link, Timing},
    },
    config::Config,
};
use celeriac_beat::{Listed, Publish, PublishError, RedisStore, ScheduleStore, StoreError};
use celeriac_outbox::{CeleryPublisher, Pool, Relay, RelayError};
use companion::settings::Settings;

const APP: &str = "ai_companion";
/// The queue of the service, and the one to which a client publishes that is not configured.
const QUEUES: [&str; 2] = ["default", "celery"];
/// How long the broker may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the broker may take where somebody looks whether all is well.
const LOOK_TIMEOUT: Duration = Duration::from_millis(950);
/// How long workers have to answer a ping; `celery inspect ping` waits for a second.
const PING_TIMEOUT: Duration = Duration::from_millis(900);

/// A client of the Celery application `ai_companion`; cheap to clone.
#[derive(Clone)]
pub struct CeleryClient {
    app: Celery,
    /// Where beat keeps its schedule.
    schedule: Link,
    /// The lock of RedBeat there, which the beat that sends renews every second.
    beat_lock: String,
}

/// What can go wrong on the way to the workers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CeleryError {
    /// A Celery setting cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The broker does not answer as it should.
    #[error("{error}")]
    Unavailable {
        /// The whole error, for the log.
        error: String,
        /// The cause in a few words, which name no address and no user.
        cause: String,
    },
    /// Nobody answered a ping.
    #[error("no workers")]
    NoWorkers,
}

impl CeleryError {
    /// Returns what is wrong in a few words, which name no address and no user.
    pub fn cause(&self) -> String {
        match self {
            Self::Settings(_) => "a setting cannot be used".to_owned(),
            Self::Unavailable { cause, .. } => format!("the broker: {cause}"),
            Self::NoWorkers => "no workers".to_owned(),
        }
    }
}

impl From<StoreError> for CeleryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Redis(error) => error.into(),
            error => Self::Unavailable {
                error: error.to_string(),
                cause: "the schedule cannot be read".to_owned(),
            },
        }
    }
}

impl From<PublishError> for CeleryError {
    fn from(error: PublishError) -> Self {
        Self::Unavailable { error: error.to_string(), cause: "the run cannot be sent".to_owned() }
    }
}

impl From<RelayError> for CeleryError {
    fn from(error: RelayError) -> Self {
        Self::Unavailable { error: error.to_string(), cause: "the outbox cannot be published".to_owned() }
    }
}

impl From<celeriac::Error> for CeleryError {
    fn from(error: celeriac::Error) -> Self {
        match error {
            celeriac::Error::Broker(error) => error.into(),
            celeriac::Error::Backend(error) => error.into(),
            error => Self::Unavailable { error: error.to_string(), cause: "it cannot be used".to_owned() },
        }
    }
}

impl From<BrokerError> for CeleryError {
    fn from(error: BrokerError) -> Self {
        let cause = match &error {
            BrokerError::Connection { .. } => "it cannot be reached".to_owned(),
            BrokerError::Refused { .. } => answered(error.code()),
            BrokerError::Timeout { .. } => "no answer".to_owned(),
            BrokerError::Tls { .. } => "no TLS with it".to_owned(),
            _ => "it cannot be used".to_owned(),
        };
        Self::Unavailable { error: error.to_string(), cause }
    }
}

impl From<BackendError> for CeleryError {
    fn from(error: BackendError) -> Self {
        let cause = match &error {
            BackendError::Connection { .. } => "it cannot be reached".to_owned(),
            BackendError::Refused { .. } => answered(error.code()),
            BackendError::Timeout { .. } => "no answer".to_owned(),
            BackendError::Tls { .. } => "no TLS with it".to_owned(),
            _ => "it cannot be used".to_owned(),
        };
        Self::Unavailable { error: error.to_string(), cause }
    }
}

/// Names the error that a server answered with, in a few words.
fn answered(code: Option<&str>) -> String {
    match code {
        Some("NOAUTH" | "WRONGPASS") => "wrong password".to_owned(),
        code => format!("it answered {}", code.unwrap_or("an error")),
    }
}

impl CeleryClient {
    /// A client on the broker and result backend of the settings. Variables `CELERY_<SETTING>` go over them, as for the workers. Nothing is
    /// connected yet.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, CeleryError> {
        let unusable = |error: &dyn std::fmt::Display| CeleryError::Settings(error.to_string());
        let mut config = Config::default();
        for (name, value) in [
            ("broker_url", settings.broker_url.expose()),
            ("result_backend", settings.result_backend.expose()),
            ("task_default_queue", QUEUES[0]),
        ] {
            config.set(name, value).map_err(|error| unusable(&error))?;
        }
        let config = config.load(None).map_err(|error| unusable(&error))?;
        let app = Celery::new(APP, config).map_err(|error| unusable(&error))?;
        let Config { redbeat_key_prefix: prefix, redbeat_lock_key: lock, redbeat_redis_url, .. } =
            app.config();
        let beat_lock =
            if lock.starts_with(prefix.as_str()) { lock.clone() } else { format!("{prefix}{lock}") };
        let url = redbeat_redis_url.as_ref().or_else(|| app.config().write_url());
        let url = url.ok_or_else(|| unusable(&"broker_url is missing"))?;
        let endpoint = Endpoint::broker(url, app.config()).map_err(|error| unusable(&error))?;
        let schedule = Link::new(endpoint, Timing::broker(app.config()));
        Ok(Self { app, schedule, beat_lock })
    }

    /// The names of the workers that answer within a second.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn ping_workers(&self) -> Result<Vec<String>, CeleryError> {
        in_time(LOOK_TIMEOUT, self.app.control().inspect().timeout(PING_TIMEOUT).ping()).await
    }

    /// Whether a beat holds the lock of the schedule, which one that dies gives up within seconds.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn has_beat(&self) -> Result<bool, CeleryError> {
        let mut exists = redis::pipe();
        exists.cmd("EXISTS").arg(&self.beat_lock);
        let replies = in_time(LOOK_TIMEOUT, self.schedule.call(&mut exists)).await?;
        Ok(replies == [redis::Value::Int(1)])
    }

    /// How many messages wait in each queue of the service.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn queue_lengths(&self) -> Result<Vec<(String, u64)>, CeleryError> {
        let mut lengths = Vec::new();
        for queue in QUEUES {
            lengths.push((queue.to_owned(), in_time(LOOK_TIMEOUT, self.app.broker().length(queue)).await?));
        }
        Ok(lengths)
    }

    /// Publishes what the outbox holds, as a worker would do within a moment.
    ///
    /// # Errors
    /// When the broker or the database does not answer; the messages stay in the outbox.
    pub async fn publish(&self, outbox: Pool) -> Result<(), CeleryError> {
        let publisher = CeleryPublisher::new(self.app.clone(), [QUEUES[0]]);
        in_time(TIMEOUT, async { Relay::new(outbox, publisher).publish_once().await }).await
    }
}

/// The schedule of beat.
impl CeleryClient {
    /// The entries, with their next and last runs.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn schedule(&self) -> Result<Vec<serde_json::Value>, CeleryError> {
        let mut store = self.store()?;
        Ok(in_time(TIMEOUT, store.list()).await?.iter().map(Listed::to_json).collect())
    }

    /// Switches an entry on or off. Returns whether there is such an entry.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn switch_entry(&self, name: &str, enabled: bool) -> Result<bool, CeleryError> {
        let mut store = self.store()?;
        in_time(TIMEOUT, store.enable(name, enabled)).await
    }

    /// Sends an entry now; its schedule goes on as before. Returns the task's id, or nothing if there is no such entry.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn run_entry(&self, name: &str) -> Result<Option<String>, CeleryError> {
        let mut store = self.store()?;
        let listed = in_time(TIMEOUT, store.list()).await?;
        let Some(listed) = listed.into_iter().find(|listed| listed.entry.name == name) else {
            return Ok(None);
        };
        let run = listed.entry.run_now();
        in_time(TIMEOUT, self.app.publish(&run)).await?;
        Ok(Some(run.id.to_string()))
    }

    fn store(&self) -> Result<RedisStore, CeleryError> {
        RedisStore::of_app(&self.app, "api".to_owned())
            .map_err(|error| CeleryError::Settings(error.to_string()))
    }
}

async fn in_time<T, E: Into<CeleryError>>(
    patience: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, CeleryError> {
    match tokio::time::timeout(patience, call).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => {
            let cause = format!("no answer within {} ms", patience.as_millis());
            Err(CeleryError::Unavailable { error: format!("the broker: {cause}"), cause })
        }
    }
}
