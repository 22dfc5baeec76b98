//! The pure parts of the tasks that Celery has in every worker.
//!
//! Source: celery 5.7 `celery/app/builtins.py`, `chunks` in `celery/canvas.py`.

use super::CanvasError;
use super::build::{group, starmap};
use crate::backend::ExceptionInfo;
use crate::message::{Body, Signature, Value};

/// `celery.accumulate`: the argument at the position `index`, or all of them.
///
/// # Errors
/// There is no such argument: Python's `IndexError`.
pub fn accumulate(body: &Body) -> Result<Value, ExceptionInfo> {
    let Some(index) = body.kwargs.get("index").filter(|index| !index.is_null()) else {
        return Ok(Value::List(body.args.clone()));
    };
    let count = body.args.len() as i64;
    index
        .as_i64()
        .map(|index| if index < 0 { index + count } else { index })
        .and_then(|index| body.args.get(usize::try_from(index).ok()?).cloned())
        .ok_or_else(|| ExceptionInfo::builtin("IndexError", "tuple index out of range"))
}

/// The task and the arguments of each call that `celery.map` makes; the signature's own arguments are not used.
///
/// # Errors
/// The arguments are not those of `celery.map`.
pub fn map_calls(body: &Body) -> Result<(String, Vec<Vec<Value>>), ExceptionInfo> {
    let (task, items) = task_and_items(body)?;
    Ok((task, items.iter().map(|item| vec![item.clone()]).collect()))
}

/// The task and the arguments of each call that `celery.starmap` makes.
///
/// # Errors
/// The arguments are not those of `celery.starmap`, or an item is no list.
pub fn starmap_calls(body: &Body) -> Result<(String, Vec<Vec<Value>>), ExceptionInfo> {
    let (task, items) = task_and_items(body)?;
    let args = items.iter().map(|item| match item {
        Value::List(args) => Ok(args.clone()),
        other => {
            let text = format!("argument after * must be an iterable, not {}", other.kind());
            Err(ExceptionInfo::builtin("TypeError", text))
        }
    });
    Ok((task, args.collect::<Result<_, _>>()?))
}

/// The group of `celery.starmap` that chunks stand for.
///
/// # Errors
/// The signature is not one of `celery.chunks`.
pub(super) fn chunks_group(chunks: &Signature) -> Result<Signature, CanvasError> {
    let argument = |name: &str| chunks.kwargs.get(name).cloned().unwrap_or_default();
    let task = Signature::from_value(&argument("task"))?;
    let items = argument("it");
    let Some(items) = items.as_list() else {
        return Err(CanvasError::bad_option("it", &items, "a list"));
    };
    let size = argument("n");
    let Some(size) = size.as_i64().and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0)
    else {
        return Err(CanvasError::bad_option("n", &size, "a positive number"));
    };
    Ok(group(items.chunks(size).map(|chunk| starmap(task.clone(), chunk.to_vec()))))
}

fn task_and_items(body: &Body) -> Result<(String, &[Value]), ExceptionInfo> {
    let argument = |position: usize, name: &str| {
        body.args.get(position).or_else(|| body.kwargs.get(name)).ok_or_else(|| {
            ExceptionInfo::builtin("TypeError", format!("missing a required argument: '{name}'"))
        })
    };
    let task = argument(0, "task")?;
    let items = argument(1, "it")?;
    let name = task.as_str().or_else(|| task.get("task")?.as_str());
    match (name, items) {
        (Some(name), Value::List(items)) => Ok((name.to_owned(), items)),
        (None, _) => {
            Err(ExceptionInfo::builtin("TypeError", format!("task is {}, not a signature", task.kind())))
        }
        (_, other) => {
            Err(ExceptionInfo::builtin("TypeError", format!("'{}' object is not iterable", other.kind())))
        }
    }
}
