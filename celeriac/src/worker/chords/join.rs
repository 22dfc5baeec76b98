//! The results of a chord's header.

use futures_util::future::BoxFuture;

use crate::backend::redis::{Parts, RedisBackend};
use crate::backend::{ChordPart, ExceptionInfo, ResultRef, TaskState};
use crate::broker::BrokerError;
use crate::message::Value;
use crate::worker::runtime::Runtime;

impl Runtime {
    /// The results of a chord's header: by the saved shape if its header held groups, else in the order of its parts.
    pub(super) async fn chord_results(
        &self,
        backend: &RedisBackend,
        part: &ChordPart,
    ) -> Result<Parts, BrokerError> {
        let joined = async {
            match backend.restore_group(&part.group_id).await? {
                Some(group) => join(backend, &group).await,
                None => backend.chord_parts(&part.group_id).await,
            }
        };
        match joined.await {
            // It will not be readable later either.
            Err(BrokerError::Protocol(error)) => {
                let error =
                    ExceptionInfo::new("kombu.exceptions", "DecodeError", vec![error.to_string().into()]);
                Ok(Parts::Unjoined { exception: error.to_value() })
            }
            joined => joined,
        }
    }
}

/// The results of a saved group in its shape: a nested group gives a list of its own.
fn join<'a>(backend: &'a RedisBackend, group: &'a ResultRef) -> BoxFuture<'a, Result<Parts, BrokerError>> {
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
            let meta = match backend.wait(&child.id, backend.join_timeout()).await {
                // The server answers, and there is no result.
                Err(BrokerError::Timeout { .. }) => match backend.fetch(&child.id).await? {
                    Some(meta) if meta.status.is_ready() => meta,
                    _ => {
                        let error = ExceptionInfo::celery("TimeoutError", "The operation timed out.");
                        return Ok(Parts::Unjoined { exception: error.to_value() });
                    }
                },
                meta => meta?,
            };
            if meta.status != TaskState::Success {
                return Ok(Parts::Unjoined { exception: meta.result });
            }
            results.push(meta.result);
        }
        Ok(Parts::Results(results))
    })
}
