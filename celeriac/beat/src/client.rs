//! Sending through celeriac's client.

use celeriac::backend::{BackendError, TaskState};
use celeriac::broker::BrokerError;
use celeriac::message::{Signature, Value};
use celeriac::{Celery, Error};
use uuid::Uuid;

use crate::entry::{Outcome, Run};
use crate::publish::{BEAT_HEADER, Publish, PublishError};
use crate::store::send_once;

impl Publish for Celery {
    async fn publish(&self, run: &Run) -> Result<(), PublishError> {
        send_once(self, run).await
    }

    async fn outcome(&self, run: &Uuid) -> Outcome {
        match self.result(run.to_string()).state().await {
            Ok(TaskState::Success) => Outcome::Success,
            Ok(TaskState::Failure | TaskState::Revoked) => Outcome::Failure,
            Ok(TaskState::Pending) | Err(_) => Outcome::Unknown,
            Ok(_) => Outcome::Running,
        }
    }
}

/// What is wrong with an entry does not pass by itself; what is wrong with the broker does.
pub(crate) fn failure(error: Error) -> PublishError {
    let is_permanent = match &error {
        Error::Canvas(_)
        | Error::Protocol(_)
        | Error::Broker(BrokerError::Protocol(_))
        | Error::Backend(BackendError::Unreadable { .. }) => true,
        error => error.code() == Some("WRONGTYPE"),
    };
    if is_permanent { PublishError::permanent(error) } else { PublishError::new(error) }
}

/// The call that a run stands for.
pub(crate) fn signature(run: &Run) -> Signature {
    let mut signature = Signature::new(run.task.as_str()).args(run.args.iter().cloned().map(Value::from));
    for (name, value) in &run.kwargs {
        signature = signature.kwarg(name, value.clone());
    }
    for (name, value) in &run.options {
        signature = signature.option(name, value.clone());
    }
    let mut headers =
        run.options.get("headers").and_then(|headers| headers.as_object()).cloned().unwrap_or_default();
    headers.insert(BEAT_HEADER.to_owned(), true.into());
    signature
        .option("headers", Value::from(serde_json::Value::Object(headers)))
        .option("task_id", run.id.to_string())
}
