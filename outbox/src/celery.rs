use celeriac::broker::BrokerError;
use celeriac::message::Signature;
use celeriac::{Celery, Error, Value};
use redis::Pipeline;

use crate::Outgoing;
use crate::publish::{BrokerState, Publish, PublishError};

/// The key that a Redis has as long as it keeps its data, under the `global_keyprefix`.
const MARK: &str = "celeriac.outbox";
/// Its value while a relay has yet to publish again what was lost.
const CLAIMED: &str = "claimed";
/// How long that may take before another relay does it, in milliseconds.
const CLAIM: &str = "10000";

/// Publishes through a celeriac application.
#[derive(Clone)]
pub struct CeleryPublisher {
    app: Celery,
    queues: Vec<String>,
}

impl CeleryPublisher {
    /// Publishes as this application; `queues` are those whose messages count as waiting.
    ///
    /// The application should be one with `task_publish_retry` switched off: the relay tries again by itself.
    pub fn new(app: Celery, queues: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { app, queues: queues.into_iter().map(Into::into).collect() }
    }

    /// Carries out a command on the mark.
    async fn at_mark(&self, name: &str, arguments: &[&str]) -> Result<Option<redis::Value>, PublishError> {
        let broker = self.app.broker();
        let Some(queues) = broker.redis() else {
            return Err(unavailable(BrokerError::Unsupported {
                url: broker.to_string(),
                what: "tell whether it has lost messages",
                hint: "an outbox needs a Redis server as its broker",
            }));
        };
        let mut command = Pipeline::new();
        command.cmd(name).arg(format!("{}{MARK}", queues.keys().global_prefix())).arg(arguments);
        let replies = queues.link().call(&mut command).await.map_err(unavailable)?;
        Ok(replies.into_iter().next())
    }
}

impl Publish for CeleryPublisher {
    async fn publish(&self, messages: &[Outgoing]) -> Result<(), PublishError> {
        let signatures: Result<Vec<Signature>, _> = messages
            .iter()
            .map(|message| Signature::from_value(&Value::from(message.signature.clone())))
            .collect();
        let signatures = signatures.map_err(|error| PublishError::Refused(error.to_string()))?;
        self.app.apply_all(signatures).await.map(drop).map_err(failed)
    }

    async fn look(&self) -> Result<BrokerState, PublishError> {
        let mut waiting = 0;
        for queue in &self.queues {
            waiting += self.app.broker().length(queue).await.map_err(unavailable)?;
        }
        let is_marked = match self.at_mark("GET", &[]).await? {
            Some(redis::Value::BulkString(mark)) => mark != CLAIMED.as_bytes(),
            _ => false,
        };
        Ok(BrokerState { waiting, is_marked })
    }

    async fn claim_mark(&self) -> Result<bool, PublishError> {
        let claimed = self.at_mark("SET", &[CLAIMED, "NX", "PX", CLAIM]).await?;
        Ok(claimed == Some(redis::Value::Okay))
    }

    async fn mark(&self) -> Result<(), PublishError> {
        self.at_mark("SET", &["1"]).await.map(drop)
    }
}

fn failed(error: Error) -> PublishError {
    match &error {
        Error::Canvas(_) | Error::Protocol(_) => PublishError::Refused(error.to_string()),
        _ => PublishError::Unavailable(error.to_string()),
    }
}

fn unavailable(error: impl std::fmt::Display) -> PublishError {
    PublishError::Unavailable(error.to_string())
}
