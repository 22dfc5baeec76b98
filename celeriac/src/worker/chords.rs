//! The claim of a complete chord, its recovery from a worker that died with it, and results of headers of groups.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::Cmd;

use super::runtime::Runtime;
use crate::backend::redis::{Parts, RedisBackend};
use crate::backend::{ChordPart, ExceptionInfo, ResultRef, TaskState};
use crate::broker::BrokerError;
use crate::canvas;
use crate::failpoints::fail_point;
use crate::message::{Accept, Body, Headers, Message, Properties, Serializer, Value, envelope};
use crate::task::Request;

/// How often a worker looks for chords that another one has claimed and not ended.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A chord's part and the token under which it claims the chord.
#[derive(Clone)]
pub(super) struct Claim {
    pub(super) part: ChordPart,
    pub(super) token: String,
    /// The request of the part, without its arguments.
    completing: Vec<u8>,
    /// Whether the part may be a late copy of one that was counted.
    redelivered: bool,
}

impl Claim {
    pub(super) fn new(part: ChordPart, request: Option<&Request>) -> Self {
        let completing = request.map(|request| completing(&part, request)).unwrap_or_default();
        let redelivered = request.is_none_or(Request::redelivered);
        Self { part, token: canvas::random_id(), completing, redelivered }
    }

    /// The command that returns the part and claims the chord if it is complete.
    pub(super) fn command(&self, backend: &RedisBackend) -> Cmd {
        backend.chord_part_command(&self.part, &self.token, &self.completing, self.redelivered)
    }
}

/// The part as a message, from which any worker can go on: the headers of its request, and the chord's body.
fn completing(part: &ChordPart, request: &Request) -> Vec<u8> {
    let mut headers = Headers::clone(&request.headers);
    headers.id = Some(part.task_id.clone());
    headers.group = Some(part.group_id.clone());
    let properties = Properties::clone(&request.properties);
    let mut message = Message { headers, properties, ..Message::default() };
    let mut body = Body::default();
    body.embed.chord = Some(Box::new(part.body.clone()));
    match message.set_body(&body, Serializer::Json, None) {
        Ok(()) => envelope::encode(&message),
        // A signature that came out of a message goes into one.
        Err(error) => {
            log::error!(group_id = part.group_id.as_str(), error:% = error; "Chord {} cannot be registered: {error}", part.group_id);
            Vec::new()
        }
    }
}

/// Goes on with the chords of workers that died between claiming one and sending its body, until the worker stops.
pub(super) async fn recover(runtime: Arc<Runtime>) {
    let Some(backend) = runtime.app.redis_backend().cloned() else { return };
    loop {
        tokio::select! {
            () = runtime.stopping.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let looked = async {
            for group_id in backend.overdue_chords().await? {
                let token = canvas::random_id();
                if let Some(completing) = backend.reclaim_chord(&group_id, &token).await? {
                    fail_point!("chord.reclaimed");
                    recover_one(&runtime, &backend, token, &completing).await?;
                }
            }
            Ok::<(), BrokerError>(())
        };
        if let Err(error) = looked.await {
            log::debug!(error:% = error; "Recovery of chords put off: {error}");
        }
    }
}

async fn recover_one(
    runtime: &Arc<Runtime>,
    backend: &RedisBackend,
    token: String,
    completing: &[u8],
) -> Result<(), BrokerError> {
    let (message, body) = envelope::decode(completing)?.into_task(&Accept::default())?;
    let request = Request::new(message.headers, message.properties, body, &runtime.state.hostname);
    let Some(part) = canvas::chord_part(&request, TaskState::Success, Value::Null) else { return Ok(()) };
    log::warn!(group_id = part.group_id.as_str(); "Chord {} was complete when its worker died: going on with it", part.group_id);
    let claim = Claim { part, token, completing: Vec::new(), redelivered: true };
    runtime.complete_chord(backend, &claim, &request).await;
    Ok(())
}

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
