//! The tasks that every Celery worker has.
//!
//! Source: celery 5.7 `celery/app/builtins.py`.

use std::sync::Arc;

use super::execute::after;
use super::layers::call;
use crate::backend::ExceptionInfo;
use crate::canvas;
use crate::message::{Body, Headers, Value};
use crate::task::{Context, Request, TaskDefinition, TaskError, TaskResult};

/// The name of a task, and the arguments of each call.
type Calls = (String, Vec<Vec<Value>>);

/// `celery.map`, `celery.starmap`, `celery.accumulate`, ..., over the worker's own tasks.
pub(crate) fn definitions(registry: &Arc<std::sync::OnceLock<Registry>>) -> Vec<TaskDefinition> {
    let calls = |name: &'static str, calls: fn(&Body) -> Result<Calls, ExceptionInfo>| {
        let registry = Arc::clone(registry);
        TaskDefinition::from_async(name, move |context| {
            let registry = Arc::clone(&registry);
            async move {
                let calls = calls(&context.request().body).map_err(TaskError::exception)?;
                run_all(&context, &registry, calls).await
            }
        })
    };
    vec![
        calls("celery.map", canvas::map_calls),
        calls("celery.starmap", canvas::starmap_calls),
        TaskDefinition::from_async("celery.accumulate", |context| async move {
            canvas::accumulate(&context.request().body).map_err(TaskError::exception)
        }),
        TaskDefinition::from_async("celery.backend_cleanup", |_| async { Ok(Value::Null) }),
    ]
}

/// The worker's tasks by name.
pub(crate) type Registry = std::collections::HashMap<Arc<str>, Arc<TaskDefinition>>;

async fn run_all(
    context: &Context,
    registry: &std::sync::OnceLock<Registry>,
    (task, calls): Calls,
) -> TaskResult<Value> {
    let definition = registry.get().and_then(|registry| registry.get(task.as_str()));
    let definition = definition
        .ok_or_else(|| TaskError::exception(ExceptionInfo::celery("NotRegistered", task.as_str())))?;
    let mut results = Vec::with_capacity(calls.len());
    for args in calls {
        let outer = context.request();
        let mut headers = Headers::clone(&outer.headers);
        headers.retries = 0;
        let request = Request {
            task: task.clone(),
            id: outer.id.clone(),
            headers: Arc::new(headers),
            properties: Arc::clone(&outer.properties),
            body: Body { args, ..Body::default() },
            hostname: outer.hostname.clone(),
            taken: outer.taken,
        };
        results.push(run_one(context, definition, request).await?);
    }
    Ok(Value::List(results))
}

/// Calls a task in the place of the one that runs. A retry calls it again here, when it is due: calls that have succeeded
/// are not repeated.
async fn run_one(
    context: &Context,
    definition: &Arc<TaskDefinition>,
    mut request: Request,
) -> TaskResult<Value> {
    loop {
        let inner = context.for_inner(Arc::clone(definition), request.clone());
        let error = match call(&definition.handler, None, inner).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let (retry, failure) = match error {
            TaskError::Retry(retry) => (*retry, None),
            TaskError::Failure(failure) => {
                match canvas::autoretry(&request, &failure.exception, &definition.options) {
                    Some(retry) => (retry, Some(failure)),
                    None => return Err(TaskError::Failure(failure)),
                }
            }
            error => return Err(error),
        };
        let (task, id) = (request.task.clone(), request.id.clone());
        let (options, parameters) = (&definition.options, definition.parameters);
        let next = canvas::retry_in_place(&mut request, &retry, options, parameters, context.time());
        let seconds = match (next, failure) {
            (Ok(seconds), _) => seconds,
            (Err(_), Some(failure)) => return Err(TaskError::Failure(failure)),
            (Err(exception), None) => return Err(TaskError::exception(exception)),
        };
        log::info!(task_id = id.as_str(), task_name = task.as_str(), retries = request.retries(); "A call of {task} in {}[{id}] is retried in {seconds}s", context.name());
        after(Some(seconds.max(0.0))).await;
    }
}
