//! Carrying events from the buffer to the broker.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Dispatcher;
use crate::backoff::Backoff;
use crate::broker::{Broker, BrokerError};
use crate::message::Message;

/// Most messages in one round trip.
const MESSAGES: usize = 128;
/// Time between two round trips, unless one was full: an event of an idle worker leaves at once, those of a busy one
/// together.
const PACE: Duration = Duration::from_millis(10);
/// How long the last events may take when the worker ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Publishes the dispatcher's events until told to stop, and then those that still wait.
///
/// While the broker is away they are kept, up to a bound.
pub(crate) async fn publish_until(dispatcher: Dispatcher, broker: Broker, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    let mut outgoing = Vec::new();
    while !stop.is_cancelled() {
        let pause = match publish_some(&dispatcher, &broker, &mut outgoing).await {
            Ok(0) => {
                tokio::select! {
                    () = dispatcher.filled() => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
            Ok(count) => {
                backoff.reset();
                if count < MESSAGES { PACE } else { Duration::ZERO }
            }
            Err(error) => {
                if backoff.attempts() == 0 {
                    log::warn!(error:% = error; "Events wait until the broker is back: {error}");
                }
                backoff.next()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
    let rest = async {
        while publish_some(&dispatcher, &broker, &mut outgoing).await.is_ok_and(|count| count > 0) {}
    };
    let in_time = tokio::time::timeout(FAREWELL, rest).await.is_ok();
    if !in_time || !outgoing.is_empty() || dispatcher.waiting() > 0 {
        log::warn!("The last events could not be sent: the broker is away");
    }
}

/// Publishes what is on its way and what waits, up to one round trip's worth; returns how many messages that were.
async fn publish_some(
    dispatcher: &Dispatcher,
    broker: &Broker,
    outgoing: &mut Vec<Message>,
) -> Result<usize, BrokerError> {
    if outgoing.is_empty() {
        let (messages, dropped) = dispatcher.take(MESSAGES);
        *outgoing = messages;
        if dropped > 0 {
            log::warn!(count = dropped; "{dropped} event(s) dropped: the broker does not take them fast enough");
        }
    }
    if outgoing.is_empty() {
        return Ok(0);
    }
    match broker.publish(outgoing).await {
        Err(error) if error.is_retryable() => return Err(error),
        Err(error) => {
            log::error!(count = outgoing.len(), error:% = error; "{} message(s) of events dropped: {error}", outgoing.len());
        }
        Ok(()) => {}
    }
    let count = outgoing.len();
    outgoing.clear();
    Ok(count)
}
