//! Receiving what is published to fanout exchanges: remote control and events.

use futures_util::StreamExt;
use redis::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Link;
use crate::backoff::Backoff;
use crate::message::{Message, envelope};

/// Messages that may wait for a slow reader before the oldest are dropped.
const BUFFER: usize = 10_000;

/// Messages of fanout exchanges, with reconnection; ends when it is dropped.
pub struct Subscription {
    messages: mpsc::Receiver<Message>,
    stop: CancellationToken,
}

impl Subscription {
    /// Subscribes to channel patterns; returns once the server has confirmed them the first time, or after the
    /// first failed attempt.
    pub(crate) async fn open(link: &Link, patterns: Vec<String>) -> Self {
        let (sender, messages) = mpsc::channel(BUFFER);
        let stop = CancellationToken::new();
        let (ready, first) = tokio::sync::oneshot::channel();
        tokio::spawn(listen(link.clone(), patterns, sender, stop.clone(), ready));
        // The listener answers after its first attempt, whatever came of it.
        let _ = first.await;
        Self { messages, stop }
    }

    /// The next message.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn listen(
    link: Link,
    patterns: Vec<String>,
    messages: mpsc::Sender<Message>,
    stop: CancellationToken,
    ready: tokio::sync::oneshot::Sender<()>,
) {
    let mut backoff = Backoff::default();
    let mut ready = Some(ready);
    loop {
        let attempt = receive(&link, &patterns, &messages, &mut ready, &mut backoff);
        tokio::select! {
            () = stop.cancelled() => return,
            result = attempt => {
                if let Err(error) = result {
                    log::warn!(broker:% = link.endpoint(), error:% = error; "Subscription lost: reconnecting");
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
    patterns: &[String],
    messages: &mpsc::Sender<Message>,
    ready: &mut Option<tokio::sync::oneshot::Sender<()>>,
    backoff: &mut Backoff,
) -> redis::RedisResult<()> {
    let client = Client::open(link.endpoint().connection_info(redis::ProtocolVersion::RESP2))?;
    let (mut sink, mut stream) = client.get_async_pubsub().await?.split();
    for pattern in patterns {
        sink.psubscribe(pattern).await?;
    }
    ready.take();
    backoff.reset();
    let mut check = tokio::time::interval(std::time::Duration::from_secs(20));
    loop {
        tokio::select! {
            received = stream.next() => {
                let Some(received) = received else { return Err(redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset))) };
                match envelope::decode(received.get_payload_bytes()) {
                    Ok(message) => {
                        if messages.try_send(message).is_err() {
                            log::warn!(channel = received.get_channel_name(); "A fanout message was dropped: {BUFFER} wait already");
                        }
                    }
                    Err(error) => log::warn!(channel = received.get_channel_name(), error:% = error; "A fanout message cannot be read: {error}"),
                }
            }
            _ = check.tick() => {
                // A half-open connection shows itself by not answering.
                let answer = tokio::time::timeout(std::time::Duration::from_secs(5), sink.ping::<redis::Value>());
                answer.await.map_err(|_| redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))??;
            }
        }
    }
}
