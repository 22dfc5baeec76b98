//! Receiving what is published to fanout exchanges: remote control and events.

use std::collections::VecDeque;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use super::Link;
use crate::backoff::Backoff;
use crate::broker::{BrokerError, Subscription};
use crate::message::{Message, envelope};
use crate::repeats::Repeats;

/// Messages that may wait for a slow reader before the oldest are dropped.
const BUFFER: usize = 10_000;
/// Messages that are remembered in order to know them again (kombu's `_fanout_compat_dedup_size`).
const REMEMBERED: usize = 1000;

impl Subscription {
    /// Subscribes to channel patterns; returns once the server has confirmed them the first time, or after the
    /// first failed attempt. With `repeats` a message may come by several of them, and is given once.
    pub(crate) async fn open(link: &Link, patterns: Vec<String>, repeats: bool) -> Self {
        let (sender, messages) = mpsc::channel(BUFFER);
        let stop = CancellationToken::new();
        let (ready, first) = tokio::sync::oneshot::channel();
        let wanted = Wanted { patterns, seen: repeats.then(Seen::default) };
        tokio::spawn(listen(link.clone(), wanted, sender, stop.clone(), ready));
        // The listener answers after its first attempt, whatever came of it.
        let _ = first.await;
        Self::new(messages, stop)
    }
}

/// What is listened for.
struct Wanted {
    patterns: Vec<String>,
    /// What has come already, where messages may come twice.
    seen: Option<Seen>,
}

/// The delivery tags that came last.
#[derive(Default)]
struct Seen(VecDeque<String>);

impl Seen {
    /// Notes a message; whether it is a new one.
    fn note(&mut self, message: &Message) -> bool {
        let tag = &message.properties.delivery_tag;
        if tag.is_empty() {
            return true;
        }
        if self.0.contains(tag) {
            return false;
        }
        self.0.push_back(tag.clone());
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
        true
    }
}

async fn listen(
    link: Link,
    mut wanted: Wanted,
    messages: mpsc::Sender<Message>,
    stop: CancellationToken,
    ready: tokio::sync::oneshot::Sender<()>,
) {
    let (mut backoff, mut lost) = (Backoff::default(), Repeats::default());
    let mut ready = Some(ready);
    loop {
        let attempt = receive(&link, &mut wanted, &messages, &mut ready, &mut backoff, &mut lost);
        tokio::select! {
            () = stop.cancelled() => return,
            result = attempt => {
                if let Err(error) = result
                    && let Some(count) = lost.note(&error.to_string())
                {
                    log::warn!(broker:% = link.endpoint(), count; "Subscription lost, reconnecting: {error}");
                }
            }
        }
        ready.take();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

async fn receive(
    link: &Link,
    Wanted { patterns, seen }: &mut Wanted,
    messages: &mpsc::Sender<Message>,
    ready: &mut Option<tokio::sync::oneshot::Sender<()>>,
    backoff: &mut Backoff,
    lost: &mut Repeats,
) -> Result<(), BrokerError> {
    let (mut sink, mut stream) = link.subscriber().await?;
    for pattern in patterns.iter() {
        link.answered(sink.psubscribe(pattern)).await?;
    }
    ready.take();
    backoff.reset();
    lost.end();
    let mut check = tokio::time::interval(link.timing().health_check);
    let (mut dropped, mut unreadable) = (Repeats::default(), Repeats::default());
    loop {
        tokio::select! {
            received = stream.next() => {
                let Some(received) = received else { return Err(link.closed()) };
                match envelope::decode(received.get_payload_bytes()) {
                    Ok(message) if seen.as_mut().is_some_and(|seen| !seen.note(&message)) => {}
                    Ok(message) => match messages.try_send(message) {
                        Ok(()) => {}
                        // Nobody wants any more.
                        Err(TrySendError::Closed(_)) => return Ok(()),
                        Err(TrySendError::Full(_)) => {
                            if let Some(count) = dropped.note("") {
                                log::warn!(channel = received.get_channel_name(), count; "Fanout messages are dropped, {count} so far: {BUFFER} wait already");
                            }
                        }
                    },
                    Err(error) => {
                        if let Some(count) = unreadable.note("") {
                            log::warn!(channel = received.get_channel_name(), error:% = error, count; "A fanout message cannot be read ({count} so far): {error}");
                        }
                    }
                }
            }
            _ = check.tick() => {
                // A half-open connection shows itself by not answering.
                link.answered(sink.ping::<redis::Value>()).await?;
            }
        }
    }
}
