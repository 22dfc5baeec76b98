//! The way to the workers: the few things of Celery that the API needs.

use std::time::Duration;

use celeriac::{
    Celery,
    config::Config,
    message::{Map, Signature, Value},
};
use companion::settings::Settings;

const APP: &str = "ai_companion";
/// The queue of the service, and the one to which a client publishes that is not configured.
const QUEUES: [&str; 2] = ["default", "celery"];
/// How long the broker may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long workers have to answer a ping, as `celery inspect ping` waits.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// A client of the Celery application `ai_companion`; cheap to clone.
#[derive(Clone)]
pub struct CeleryClient {
    app: Celery,
}

/// What can go wrong on the way to the workers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CeleryError {
    /// A Celery setting cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The broker does not answer as it should.
    #[error("{0}")]
    Unavailable(String),
    /// Nobody answered a ping.
    #[error("no workers")]
    NoWorkers,
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
        Ok(Self { app })
    }

    /// The names of the workers that answer within a second.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn ping_workers(&self) -> Result<Vec<String>, CeleryError> {
        in_time(self.app.control().inspect().timeout(PING_TIMEOUT).ping()).await
    }

    /// Whether any worker answers within a second; returns with the first answer.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn ping_any_worker(&self) -> Result<bool, CeleryError> {
        let workers = in_time(self.app.control().inspect().timeout(PING_TIMEOUT).limit(1).ping()).await?;
        Ok(!workers.is_empty())
    }

    /// How many messages wait in each queue of the service.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn queue_lengths(&self) -> Result<Vec<(String, u64)>, CeleryError> {
        let mut lengths = Vec::new();
        for queue in QUEUES {
            lengths.push((queue.to_owned(), in_time(self.app.queues().length(queue)).await?));
        }
        Ok(lengths)
    }

    /// Sends a task by its name to the queue of the service and returns its id. The correlation id goes along as the
    /// header `x_request_id`.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn send_task(
        &self,
        name: &str,
        kwargs: &[(&str, String)],
        correlation_id: &str,
    ) -> Result<String, CeleryError> {
        let headers: Map = [("x_request_id".to_owned(), Value::from(correlation_id))].into_iter().collect();
        let mut signature = Signature::new(name).option("queue", QUEUES[0]).option("headers", headers);
        for (name, value) in kwargs {
            signature = signature.kwarg(*name, value.as_str());
        }
        let sent = in_time(self.app.apply(signature)).await?;
        Ok(sent.id().to_owned())
    }
}

async fn in_time<T, E: std::fmt::Display>(
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, CeleryError> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(result) => result.map_err(|error| CeleryError::Unavailable(error.to_string())),
        Err(_) => Err(CeleryError::Unavailable(format!("the broker did not answer within {TIMEOUT:?}"))),
    }
}
