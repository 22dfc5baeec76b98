//! Results of a chord whose header holds groups.

use futures_util::future::BoxFuture;

use crate::backend::redis::{Parts, RedisBackend};
use crate::backend::{ResultRef, TaskState};
use crate::broker::BrokerError;
use crate::message::Value;

/// The results of a saved group in its shape: a nested group gives a list of its own.
pub(crate) fn join<'a>(
    backend: &'a RedisBackend,
    group: &'a ResultRef,
) -> BoxFuture<'a, Result<Parts, BrokerError>> {
    Box::pin(async move {
        let mut results = Vec::new();
        for child in group.children.iter().flatten() {
            if child.children.is_some() {
                match join(backend, child).await? {
                    Parts::Results(nested) => results.push(Value::List(nested)),
                    failed => return Ok(failed),
                }
                continue;
            }
            let meta = backend.wait(&child.id, backend.join_timeout()).await?;
            if meta.status != TaskState::Success {
                return Ok(Parts::Failed { task_id: meta.task_id, exception: meta.result });
            }
            results.push(meta.result);
        }
        Ok(Parts::Results(results))
    })
}
