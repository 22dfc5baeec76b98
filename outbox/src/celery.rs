use celeriac::message::Signature;
use celeriac::{Celery, Error, Value};
use redis::Pipeline;

use crate::Outgoing;
use crate::publish::{BrokerState, Publish, PublishError};

/// The key that a Redis has as long as it keeps its data, under the `global_keyprefix`.
const MARK: &str = "celeriac.outbox";

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

    fn mark_key(&self) -> String {
        format!("{}{MARK}", self.app.queues().keys().global_prefix())
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
            waiting += self.app.queues().length(queue).await.map_err(unavailable)?;
        }
        let mut exists = Pipeline::new();
        exists.cmd("EXISTS").arg(self.mark_key());
        let replies = self.app.queues().link().call(&mut exists).await.map_err(unavailable)?;
        Ok(BrokerState { waiting, is_marked: replies.first() == Some(&redis::Value::Int(1)) })
    }

    async fn mark(&self) -> Result<bool, PublishError> {
        let mut set = Pipeline::new();
        set.cmd("SETNX").arg(self.mark_key()).arg(1);
        let replies = self.app.queues().link().call(&mut set).await.map_err(unavailable)?;
        Ok(replies.first() == Some(&redis::Value::Int(1)))
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
