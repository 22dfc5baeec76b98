//! The tasks that every Celery worker has.
//!
//! Source: celery 5.7 `celery/app/builtins.py`.

use std::sync::Arc;

use crate::message::{Map, Signature, Value};
use crate::task::{Context, Handler, Request, TaskDefinition, TaskError, TaskResult};

/// `celery.map`, `celery.starmap`, `celery.accumulate`, ..., over the worker's own tasks.
pub(crate) fn definitions(registry: &Arc<std::sync::OnceLock<Registry>>) -> Vec<TaskDefinition> {
    let calls = |name: &'static str, calls: fn(&Request) -> Result<Vec<Call>, TaskError>| {
        let registry = Arc::clone(registry);
        TaskDefinition::from_async(name, move |context| {
            let registry = Arc::clone(&registry);
            async move { run_all(&context, &registry, calls(context.request())?).await }
        })
    };
    vec![
        calls("celery.map", |request| each(request, |item| vec![item])),
        calls("celery.starmap", |request| {
            each(request, |item| match item {
                Value::List(items) => items,
                item => vec![item],
            })
        }),
        TaskDefinition::from_async(
            "celery.accumulate",
            |context| async move { accumulate(context.request()) },
        ),
        TaskDefinition::from_async("celery.backend_cleanup", |_| async { Ok(Value::Null) }),
    ]
}

/// The worker's tasks by name.
pub(crate) type Registry = std::collections::HashMap<Arc<str>, Arc<TaskDefinition>>;

type Call = (Signature, Vec<Value>);

fn each(request: &Request, arguments: fn(Value) -> Vec<Value>) -> Result<Vec<Call>, TaskError> {
    let missing =
        |name: &str| TaskError::builtin("TypeError", format!("{}() missing argument {name:?}", request.task));
    let mut given = request.body.args.iter();
    let mut argument = |name: &str| {
        given.next().or_else(|| request.body.kwargs.get(name)).cloned().ok_or_else(|| missing(name))
    };
    let task = Signature::from_value(&argument("task")?)
        .map_err(|error| TaskError::builtin("TypeError", error.to_string()))?;
    let Value::List(items) = argument("it")? else {
        return Err(TaskError::builtin("TypeError", "it is not a list"));
    };
    Ok(items.into_iter().map(|item| (task.clone(), arguments(item))).collect())
}

async fn run_all(
    context: &Context,
    registry: &std::sync::OnceLock<Registry>,
    calls: Vec<Call>,
) -> TaskResult<Value> {
    let mut results = Vec::with_capacity(calls.len());
    for (task, args) in calls {
        let definition = registry.get().and_then(|registry| registry.get(task.task.as_str()));
        let definition = definition.ok_or_else(|| {
            TaskError::exception(crate::backend::ExceptionInfo::celery("NotRegistered", task.task.as_str()))
        })?;
        let merged = task.merge(&args, &Map::new(), &Map::new());
        let mut request = context.request().clone();
        request.task.clone_from(&task.task);
        request.body.args = merged.args;
        request.body.kwargs = merged.kwargs;
        let inner = context.for_inner(Arc::clone(definition), request);
        results.push(match &definition.handler {
            Handler::Async(function) => function(inner).await?,
            Handler::Blocking(function) => {
                let function = Arc::clone(function);
                tokio::task::spawn_blocking(move || function(inner))
                    .await
                    .map_err(|error| TaskError::unexpected(error.to_string()))??
            }
        });
    }
    Ok(Value::List(results))
}

/// Gathers its arguments, or picks the one at `index`.
fn accumulate(request: &Request) -> TaskResult<Value> {
    let args = &request.body.args;
    match request.body.kwargs.get("index") {
        Some(Value::Int(index)) => {
            let position = usize::try_from(if *index < 0 { *index + args.len() as i64 } else { *index }).ok();
            position
                .and_then(|position| args.get(position))
                .cloned()
                .ok_or_else(|| TaskError::builtin("IndexError", "tuple index out of range"))
        }
        _ => Ok(Value::List(args.clone())),
    }
}
