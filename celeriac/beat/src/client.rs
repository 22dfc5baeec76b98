//! Sending through celeriac's client.

use celeriac::Celery;
use celeriac::message::{Signature, Value};

use crate::entry::Run;
use crate::publish::{BEAT_HEADER, Publish, PublishError};

impl Publish for Celery {
    async fn publish(&self, run: &Run) -> Result<(), PublishError> {
        self.apply(signature(run)).await.map(drop).map_err(PublishError::new)
    }
}

/// The call that a run stands for.
fn signature(run: &Run) -> Signature {
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
