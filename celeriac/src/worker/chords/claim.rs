//! The claim of a complete chord.

use std::time::Duration;

use crate::backend::{Backend, ChordPart, Freshness};
use crate::broker::Batch;
use crate::canvas;
use crate::message::{Accept, Body, Headers, Message, Properties, ProtocolError, Serializer, envelope};
use crate::task::Request;
use crate::worker::runtime::Runtime;

/// How often a claim is kept while its owner is at work: it lasts several times as long.
const KEEP_EVERY: Duration = Duration::from_secs(2);

/// A chord's part and the token under which it claims the chord.
#[derive(Clone)]
pub(in crate::worker) struct Claim {
    pub(in crate::worker) part: ChordPart,
    pub(in crate::worker) token: String,
    /// The request of the part, without its arguments.
    pub(super) completing: Vec<u8>,
    /// Whether the part may be a late copy of one that was counted.
    pub(super) freshness: Freshness,
}

impl Claim {
    fn new(part: ChordPart, request: Option<&Request>, freshness: Freshness) -> Self {
        let completing = request.and_then(|request| completing(&part, request)).unwrap_or_default();
        Self { part, token: canvas::random_id(), completing, freshness }
    }

    /// Returns the write that returns the part and claims the chord if it is complete.
    pub(in crate::worker) fn returning(&self, backend: &Backend) -> Batch {
        backend.returning(&self.part, &self.token, &self.completing, self.freshness)
    }
}

/// The part as a message, from which any worker can go on: the headers of its request, and the chord's body, if that is
/// known.
fn completing(part: &ChordPart, request: &Request) -> Option<Vec<u8>> {
    let mut headers = Headers::clone(&request.headers);
    headers.id = Some(part.task_id.clone());
    headers.group = Some(part.group_id.clone());
    let properties = Properties::clone(&request.properties);
    let mut message = Message { headers, properties, ..Message::default() };
    let mut body = Body::default();
    body.embed.chord = Some(Box::new(part.body.clone()?));
    match message.set_body(&body, Serializer::Json, None) {
        Ok(()) => Some(envelope::encode(&message)),
        // A signature that came out of a message goes into one.
        Err(error) => {
            log::error!(group_id = part.group_id.as_str(), error:% = error; "Chord {} cannot be registered: {error}", part.group_id);
            None
        }
    }
}

/// The request of which a message for another worker was made.
///
/// # Errors
/// [`ProtocolError`] when the message is none that a worker left.
pub(super) fn completed_by(completing: &[u8], hostname: &str) -> Result<Request, ProtocolError> {
    let (message, body) = envelope::decode(completing)?.into_task(&Accept::default())?;
    Ok(Request::new(message.headers, message.properties, body, hostname))
}

impl Runtime {
    /// Returns the claims of parts that the task of a request returns.
    pub(in crate::worker) fn claims(&self, parts: Vec<ChordPart>, request: Option<&Request>) -> Vec<Claim> {
        if parts.is_empty() {
            return Vec::new();
        }
        let freshness = request.map_or(Freshness::Redelivered, |request| self.freshness(request));
        parts.into_iter().map(|part| Claim::new(part, request, freshness)).collect()
    }

    fn freshness(&self, request: &Request) -> Freshness {
        let takeover = self.app.broker().takeover(self.config());
        let held = request.taken.map(|taken| taken.elapsed());
        if request.redelivered() {
            Freshness::Redelivered
        } else if held.zip(takeover).is_some_and(|(held, takeover)| held >= takeover) {
            Freshness::Stale
        } else {
            Freshness::Fresh
        }
    }

    /// Keeps a claim for longer; `false` when another worker has it now.
    pub(super) async fn keeps(&self, backend: &Backend, claim: &Claim) -> bool {
        self.insist(|| backend.extend_claim(&claim.part.group_id, &claim.token)).await
    }

    /// Does something while a claim is kept; `None` when another worker has it meanwhile.
    pub(super) async fn while_claimed<T>(
        &self,
        backend: &Backend,
        claim: &Claim,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let lost = async {
            loop {
                tokio::time::sleep(KEEP_EVERY).await;
                if !self.keeps(backend, claim).await {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = lost => None,
        }
    }
}
