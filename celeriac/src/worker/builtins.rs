//! The tasks that every Celery worker has.
//!
//! Source: celery 5.7 `celery/app/builtins.py`.

use std::sync::Arc;

use super::layers::call;
use crate::backend::ExceptionInfo;
use crate::canvas;
use crate::message::{Body, Value};
use crate::task::{Context, TaskDefinition, TaskError, TaskResult};

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
        let mut request = context.request().clone();
        request.task.clone_from(&task);
        request.body = Body { args, ..Body::default() };
        let inner = context.for_inner(Arc::clone(definition), request);
        results.push(call(&definition.handler, None, inner).await?);
    }
    Ok(Value::List(results))
}
