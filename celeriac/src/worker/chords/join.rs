//! The results of a chord's header.

use std::collections::HashMap;

use crate::backend::{
    Awaited, Backend, BackendError, ChordPart, ExceptionInfo, ResultRef, Returned, TaskState,
};
use crate::message::Value;
use crate::worker::runtime::Runtime;

/// The results of a complete chord, in the order of its header.
#[derive(Debug, PartialEq)]
pub(super) enum Parts {
    /// All succeeded.
    Results(Vec<Value>),
    /// One failed: its id and its exception.
    Failed { task_id: String, exception: Value },
    /// They cannot be joined, or one failed in a header of groups, which is joined by its saved shape: the exception.
    Unjoined { exception: Value },
}

impl Runtime {
    /// The results of a chord's header: by the saved shape if its header held groups, else in the order of its parts.
    pub(super) async fn chord_results(
        &self,
        backend: &Backend,
        part: &ChordPart,
    ) -> Result<Parts, BackendError> {
        let joined = async {
            match backend.restore_group(&part.group_id).await? {
                Some(group) => join(backend, &part.group_id, &group).await,
                None => Ok(in_order(backend.returned_parts(&part.group_id).await?)),
            }
        };
        match joined.await {
            // It will not be readable later either.
            Err(BackendError::Unreadable { reason, .. }) => {
                let error =
                    ExceptionInfo::new("kombu.exceptions", "DecodeError", vec![reason.to_string().into()]);
                Ok(Parts::Unjoined { exception: error.to_value() })
            }
            joined => joined,
        }
    }
}

/// The results of parts that are in the order of the header.
fn in_order(parts: Vec<Returned>) -> Parts {
    let mut results = Vec::with_capacity(parts.len());
    for Returned { task_id, state, result } in parts {
        if matches!(state, TaskState::Failure | TaskState::Revoked) {
            return Parts::Failed { task_id, exception: result };
        }
        results.push(result);
    }
    Parts::Results(results)
}

/// The results of a saved group in its shape.
///
/// Nearly all were returned with the parts. The records of others are read, and those that are missing waited for.
async fn join(backend: &Backend, group_id: &str, group: &ResultRef) -> Result<Parts, BackendError> {
    let parts = backend.returned_parts(group_id).await?;
    let mut returned: HashMap<String, Returned> =
        parts.into_iter().map(|part| (part.task_id.clone(), part)).collect();
    let tasks = group.tasks();
    let mut results: Vec<Option<Value>> = Vec::with_capacity(tasks.len());
    let mut missing = Vec::new();
    for (place, task) in tasks.iter().enumerate() {
        match returned.remove(*task) {
            Some(part) if part.state == TaskState::Success => results.push(Some(part.result)),
            Some(part) if part.state.is_ready() => return Ok(Parts::Unjoined { exception: part.result }),
            _ => {
                results.push(None);
                missing.push(place);
            }
        }
    }
    let asked: Vec<&str> = missing.iter().map(|place| tasks[*place]).collect();
    match await_all(backend, &asked).await? {
        Ok(found) => missing.into_iter().zip(found).for_each(|(place, value)| results[place] = Some(value)),
        Err(exception) => return Ok(Parts::Unjoined { exception }),
    }
    match group.arrange(results.into_iter().flatten()) {
        Value::List(results) => Ok(Parts::Results(results)),
        one => Ok(Parts::Results(vec![one])),
    }
}

/// What these tasks returned, or the exception of one that failed or is not ready in time.
async fn await_all(backend: &Backend, tasks: &[&str]) -> Result<Result<Vec<Value>, Value>, BackendError> {
    if tasks.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    loop {
        match backend.wait_all(tasks, backend.join_timeout()).await? {
            Awaited::Ready(metas) => return Ok(Ok(metas.into_iter().map(|meta| meta.result).collect())),
            Awaited::Failed(meta) => return Ok(Err(meta.result)),
            Awaited::Missing(place) => {
                // The time may have been spent on the way to the server.
                let meta = backend.fetch(tasks[place]).await?;
                if !meta.is_some_and(|meta| meta.status.is_ready()) {
                    let error = ExceptionInfo::celery("TimeoutError", "The operation timed out.");
                    return Ok(Err(error.to_value()));
                }
            }
        }
    }
}
