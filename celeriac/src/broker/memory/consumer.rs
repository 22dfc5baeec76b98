//! The consumer of a server in memory: one channel, which takes messages, holds them and settles them.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{MemoryBroker, Server};
use crate::broker::{
    Answers, BrokerError, ConsumerHandle, DeadLetter, Delivery, Disposition, Receiver, Settlement, Taken,
};
use crate::message::{Parts, envelope};

/// Most messages that are taken before settlements are looked at again.
const BATCH: usize = 256;
/// How often an idle consumer makes a turn: who watches over the worker asks for signs of life.
const IDLE: Duration = Duration::from_secs(1);
/// The same on a clock that jumps: nobody watches, and each turn takes longer than the time that it spans.
const IDLE_SIMULATED: Duration = Duration::from_secs(3600);

/// The consumer's loop and its state.
pub(crate) struct Consumer<R> {
    broker: MemoryBroker,
    channel: Channel,
    hostname: String,
    receiver: Arc<R>,
    handle: ConsumerHandle,
    settlements: mpsc::UnboundedReceiver<Settlement>,
    changes: watch::Receiver<u64>,
    /// The number of the next delivery.
    serial: u64,
}

/// A channel of a server; what it holds goes back to the queues when it is dropped.
struct Channel {
    server: Arc<Server>,
    number: u64,
}

impl Channel {
    fn open(server: &Arc<Server>) -> Self {
        Self { server: Arc::clone(server), number: server.change(|state| state.open_channel()) }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.server.change(|state| state.close_channel(self.number));
    }
}

impl<R: Receiver> Consumer<R> {
    /// A consumer that hands messages to the receiver that `make` builds.
    pub(crate) fn new(
        broker: &MemoryBroker,
        queues: Vec<Arc<str>>,
        hostname: String,
        make: impl FnOnce(ConsumerHandle) -> Arc<R>,
    ) -> Self {
        let (handle, settlements) = ConsumerHandle::new(queues);
        Self {
            channel: Channel::open(broker.server()),
            changes: broker.server().changes(),
            broker: broker.clone(),
            hostname,
            receiver: make(handle.clone()),
            handle,
            settlements,
            serial: 0,
        }
    }

    /// Who gets the messages.
    pub(crate) fn receiver(&self) -> &Arc<R> {
        &self.receiver
    }

    /// Consumes until `stop_fetching` and then commits what is settled until `finish`.
    ///
    /// # Errors
    /// None; a server in memory is always there.
    pub(crate) async fn run(
        mut self,
        stop_fetching: CancellationToken,
        finish: CancellationToken,
    ) -> Result<(), BrokerError> {
        loop {
            self.channel.server.count_turn();
            self.changes.borrow_and_update();
            while let Ok(settlement) = self.settlements.try_recv() {
                self.settle(settlement);
            }
            for binding in self.handle.take_bindings() {
                let (exchange, kind) = (&binding.exchange, &binding.exchange_type);
                let bind = |state: &mut super::State| {
                    state.bind(exchange, kind, &binding.routing_key, &binding.queue)
                };
                self.channel.server.change(bind);
            }
            if stop_fetching.is_cancelled() {
                self.handle.end_fetching();
                if finish.is_cancelled() && self.settlements.is_empty() {
                    return Ok(());
                }
            } else if self.fetch() {
                // What was begun goes first: it may be settled already.
                tokio::task::yield_now().await;
                continue;
            }
            self.wait(&stop_fetching, &finish).await;
        }
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self, stop_fetching: &CancellationToken, finish: &CancellationToken) {
        let queues = self.handle.queues();
        let due = self.channel.server.read(|state| Some(state.next_due(&queues)? - state.now));
        let idle = if self.channel.server.clock().is_simulated() { IDLE_SIMULATED } else { IDLE };
        let until = due.map_or(idle, |due| due.to_std().unwrap_or_default().min(idle));
        let settlement = tokio::select! {
            biased;
            settlement = self.settlements.recv() => settlement,
            () = self.handle.woken() => None,
            _ = self.changes.changed() => None,
            () = stop_fetching.cancelled(), if !stop_fetching.is_cancelled() => None,
            () = finish.cancelled(), if !finish.is_cancelled() => None,
            () = tokio::time::sleep(until) => None,
        };
        if let Some(settlement) = settlement {
            self.settle(settlement);
        }
    }

    /// Takes messages and hands them over, as many as are wanted; whether there were any.
    fn fetch(&mut self) -> bool {
        let queues = self.handle.queues();
        let mut taken = 0;
        while taken < BATCH && !self.receiver.capacity().is_empty() {
            let (serial, channel) = (self.serial, self.channel.number);
            let found = self.channel.server.read(|state| {
                let turn = usize::try_from(serial).unwrap_or_default();
                let held = state.take(&queues, turn)?;
                let delivered = (held.queue.clone(), held.raw.clone(), held.was_parked);
                state.hold(channel, serial, held);
                Some(delivered)
            });
            let Some((queue, raw, was_parked)) = found else { break };
            self.serial += 1;
            taken += 1;
            self.hand_over(serial, queue, &raw, was_parked);
        }
        taken > 0
    }

    fn hand_over(&self, serial: u64, queue: String, raw: &Bytes, was_parked: bool) {
        let decoded = envelope::decode(raw).map(Parts::from);
        let message = decoded.map_err(|error| Box::new((error, Parts::from(envelope::remains(raw)))));
        let delivery = Delivery { serial, queue: queue.into(), message, was_parked, taken: Instant::now() };
        if self.receiver.receive(delivery) == Taken::Acknowledged {
            self.channel.server.change(|state| state.release(self.channel.number, serial));
        }
    }

    /// Settles a delivery and carries out what belongs to it, in one step.
    fn settle(&self, settlement: Settlement) {
        let Settlement { serial, disposition, batch, answers, .. } = settlement;
        let writes = batch.into_writes();
        let answered = self.channel.server.change(|state| {
            let held = match (&disposition, serial) {
                (Disposition::Hold, _) | (_, None) => None,
                (_, Some(serial)) => state.release(self.channel.number, serial),
            };
            if let Some(held) = held {
                match disposition {
                    Disposition::Ack | Disposition::Hold => {}
                    Disposition::Requeue => state.requeue(held),
                    Disposition::Restore => state.restore(held),
                    Disposition::Park(eta) => state.park(held, eta),
                    Disposition::Dead(reason, history) => {
                        let letter = DeadLetter::new(reason, held.queue, &self.hostname, history, &held.raw);
                        self.broker.bury(state, letter);
                    }
                }
            }
            writes.iter().map(|write| write.apply(state)).collect()
        });
        if let Some(answers) = answers {
            // Who asked may have gone.
            let _ = answers.send(Ok(Answers::Memory(answered)));
        }
    }
}
