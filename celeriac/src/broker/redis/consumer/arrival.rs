//! Messages that have come to this worker, and their way to the receiver.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Consumer, Entry};
use crate::broker::{Delivery, Receiver, Taken};
use crate::failpoints::fail_point;
use crate::heavy::{LARGE, aside};
use crate::message::{Parts, envelope};

/// The time for which an acknowledgement waits for a task that is just beginning.
const MOMENT: Duration = Duration::from_millis(1);

/// A message that has come to this worker.
pub(super) struct Arrival {
    pub(super) raw: Bytes,
    pub(super) queue: Arc<str>,
    /// The in-flight list into which it was moved; `None` if it was parked and is recorded.
    pub(super) slot: Option<usize>,
}

impl<R: Receiver> Consumer<R> {
    /// Hands the messages that the last round trip has brought to the receiver.
    pub(super) fn hand_over(&mut self) {
        let now = Instant::now();
        let mut arrived = std::mem::take(&mut self.arrived);
        for Arrival { raw, queue, slot } in arrived.drain(..) {
            let serial = self.held.next_serial();
            let decode = || {
                let decoded = envelope::decode(&raw).map(Parts::from);
                decoded.map_err(|error| Box::new((error, Parts::from(envelope::remains(&raw)))))
            };
            let message = if raw.len() > LARGE { aside(decode) } else { decode() };
            let properties = message.as_ref().ok().map(|parts| Arc::clone(&parts.properties));
            let (was_parked, taken) = (slot.is_none(), now);
            let delivery = Delivery { serial, queue: Arc::clone(&queue), message, was_parked, taken };
            match self.receiver.receive(delivery) {
                Taken::Acknowledged => {
                    self.full.pay_in(raw.len());
                    match slot {
                        Some(slot) => self.slots.settle(slot, raw),
                        None => self.acknowledged.push(Entry::new(raw, properties, queue, None, now)),
                    }
                }
                Taken::Held => self.held.insert(serial, Entry::new(raw, properties, queue, slot, now)),
            }
            fail_point!("fetch.taken");
        }
        self.arrived = arrived;
        fail_point!("fetch.taken");
    }

    /// Hands over, and lets what was begun go first: a task that ends at once is acknowledged together with its result.
    ///
    /// A task that keeps this thread for long must not keep the consumer: the empty task calls another thread of the
    /// runtime, which then minds the clock and goes on here.
    pub(super) async fn hand_over_and_step_back(&mut self) {
        drop(tokio::spawn(async {}));
        self.hand_over();
        let _ = tokio::time::timeout(MOMENT, tokio::task::yield_now()).await;
    }
}
