//! The consumer: one loop that fetches, records, acknowledges and commits, a batch of everything at each round trip.
//!
//! A message leaves its queue by `LMOVE` into an in-flight list of this worker, so that it is somewhere at every
//! instant. A message that is settled at once is simply deleted from there; one that stays is first recorded in
//! kombu's `unacked` keys, from which any worker of the fleet can bring it back. See
//! `docs/adr/0002-fetching-from-redis.md`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, PushInfo, PushKind, Value};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::clock::ServerClock;
use super::dead_letters::{DeadLetter, DeadReason};
use super::inflight::{SLOTS, Slots};
use super::link::{replies, server_error};
use super::restore::renew_lease;
use super::transaction::Transaction;
use super::{Keys, Link};
use crate::backoff::Backoff;
use crate::message::{Message, ProtocolError, envelope, json};

/// Most messages that one round trip fetches.
const FETCH_BATCH: usize = 256;
/// Most settlements that one round trip commits.
const COMMIT_BATCH: usize = 1024;
/// How long a message may stay in an in-flight list before it is recorded as unacknowledged.
const RECORD_AFTER: Duration = Duration::from_millis(10);
/// How often an idle consumer looks at its queues although nothing woke it.
const IDLE_POLL: Duration = Duration::from_secs(1);
/// How often leases are renewed.
pub(crate) const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How long after its last renewal a worker's messages may be taken over.
pub(crate) const LEASE: Duration = Duration::from_secs(40);

/// One hand-over of a message to this worker.
pub(crate) struct Delivery {
    /// Number of the delivery within this consumer, by which it is settled.
    pub(crate) serial: u64,
    /// The message, or why it cannot be read.
    pub(crate) message: Result<Message, ProtocolError>,
}

/// What the receiver of a delivery did with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is acknowledged already.
    Acknowledged,
    /// It will be settled later.
    Held,
}

/// Receives deliveries; called from the consumer's loop, so it must return quickly.
pub(crate) trait Receiver: Send + Sync + 'static {
    /// How many more messages are wanted now.
    fn capacity(&self) -> usize;
    /// Takes one message.
    fn receive(&self, delivery: Delivery) -> Taken;
}

/// What becomes of a delivery, and what is committed in the same transaction.
pub(crate) struct Settlement {
    /// The delivery; `None` when it was settled before.
    pub(crate) serial: Option<u64>,
    /// What becomes of it.
    pub(crate) disposition: Disposition,
    /// Commands that take effect together with it.
    pub(crate) commands: Vec<Cmd>,
    /// Gets the replies to the commands; dropped without a word when they are not known.
    pub(crate) replies: Option<oneshot::Sender<Vec<Value>>>,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// The message is done with.
    Ack,
    /// Back to its queue, behind everything that waits (`reject` with `requeue`).
    Requeue,
    /// Back to its queue, to be delivered next (shutdown).
    Restore,
    /// It stays with this worker for long.
    Hold,
    /// To the dead letters, for that reason, after that many deliveries.
    Dead(DeadReason, u32),
}

/// The way to a running consumer.
#[derive(Clone)]
pub(crate) struct ConsumerHandle {
    settlements: mpsc::UnboundedSender<Settlement>,
    wake: Arc<Notify>,
    queues: Arc<std::sync::Mutex<Vec<Arc<str>>>>,
}

impl ConsumerHandle {
    /// Settles a delivery or commits commands. Everything sent here is bounded by the prefetch window.
    pub(crate) fn settle(&self, settlement: Settlement) {
        // The receiver lives until every delivery is settled; afterwards nobody is left to hear of it.
        let _ = self.settlements.send(settlement);
    }

    /// Tells the consumer that there is more capacity, or that the queues changed.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// The queues consumed from.
    pub(crate) fn queues(&self) -> Vec<Arc<str>> {
        self.queues.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Changes the queues consumed from.
    pub(crate) fn set_queues(&self, queues: Vec<Arc<str>>) {
        *self.queues.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = queues;
        self.wake();
    }
}

struct Entry {
    tag: String,
    exchange: String,
    routing_key: String,
    priority: u8,
    raw: Arc<[u8]>,
    queue: Arc<str>,
    /// The in-flight list that holds it, until it is recorded.
    slot: Option<usize>,
    fetched: Instant,
}

/// One of the lists that are consumed from.
struct Source {
    queue: Arc<str>,
    key: String,
    waiting: usize,
}

/// The consumer's loop and its state.
pub(crate) struct Consumer<R> {
    link: Link,
    keys: Arc<Keys>,
    worker: String,
    visibility_timeout: Duration,
    hostname: String,
    dead_letters: Option<String>,
    receiver: Arc<R>,
    handle: ConsumerHandle,
    settlements: mpsc::UnboundedReceiver<Settlement>,
    entries: HashMap<u64, Entry>,
    unrecorded: VecDeque<u64>,
    next_serial: u64,
    slots: Slots,
    sources: Vec<Source>,
    sources_of: Vec<Arc<str>>,
    first_queue: usize,
    clock: ServerClock,
    renewed: Instant,
    transaction: Option<Transaction>,
    transaction_number: u64,
}

/// How a consumer is set up.
pub(crate) struct ConsumerOptions {
    pub(crate) worker: String,
    pub(crate) queues: Vec<Arc<str>>,
    pub(crate) visibility_timeout: Duration,
    /// Node name.
    pub(crate) hostname: String,
    /// Where messages go that are given up; `None` drops them.
    pub(crate) dead_letters: Option<String>,
}

impl<R: Receiver> Consumer<R> {
    /// A consumer that hands messages to the receiver that `make` builds.
    pub(crate) fn new(
        link: Link,
        keys: Arc<Keys>,
        options: ConsumerOptions,
        make: impl FnOnce(ConsumerHandle) -> Arc<R>,
    ) -> Self {
        let (sender, settlements) = mpsc::unbounded_channel();
        let handle = ConsumerHandle {
            settlements: sender,
            wake: Arc::new(Notify::new()),
            queues: Arc::new(std::sync::Mutex::new(options.queues)),
        };
        Self {
            link,
            keys,
            worker: options.worker,
            visibility_timeout: options.visibility_timeout,
            hostname: options.hostname,
            dead_letters: options.dead_letters,
            receiver: make(handle.clone()),
            handle,
            settlements,
            entries: HashMap::new(),
            unrecorded: VecDeque::new(),
            next_serial: 0,
            slots: Slots::default(),
            sources: Vec::new(),
            sources_of: Vec::new(),
            first_queue: 0,
            clock: ServerClock::default(),
            renewed: Instant::now(),
            transaction: None,
            transaction_number: 0,
        }
    }

    /// Consumes until `stop_fetching` and then commits what is settled until `finish`.
    pub(crate) async fn run(mut self, stop_fetching: CancellationToken, finish: CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let (pushes, mut pushed) = mpsc::unbounded_channel();
            match self.connect(pushes).await {
                Ok(mut connection) => {
                    let outcome =
                        self.serve(&mut connection, &mut pushed, &mut backoff, &stop_fetching, &finish).await;
                    match outcome {
                        Ok(()) => return,
                        Err(error) => {
                            log::warn!(broker:% = self.link.endpoint(), error:% = error; "Connection to broker lost: reconnecting")
                        }
                    }
                }
                Err(error) => {
                    log::error!(broker:% = self.link.endpoint(), error:? = error; "Cannot connect to broker: {error}");
                }
            }
            let pause = backoff.next();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = finish.cancelled(), if self.entries.is_empty() && self.transaction.is_none() => return,
            }
            if finish.is_cancelled() && backoff.attempts() > 5 {
                log::error!(unsettled = self.entries.len(); "Leaving without the broker: unsettled messages come back after the lease");
                return;
            }
        }
    }

    async fn connect(
        &mut self,
        pushes: mpsc::UnboundedSender<PushInfo>,
    ) -> Result<MultiplexedConnection, String> {
        let mut connection = self.link.dedicated(Some(pushes)).await.map_err(|error| error_chain(&error))?;
        let mut hello = Pipeline::new();
        hello.cmd("CLIENT").arg("TRACKING").arg("ON").arg("NOLOOP");
        hello.cmd("TIME");
        hello.cmd("GET").arg(self.keys.committed(&self.worker));
        hello.add_command(renew_lease(&self.keys, &self.worker));
        for slot in 0..SLOTS {
            hello.cmd("LRANGE").arg(self.keys.inflight(&self.worker, slot)).arg(0).arg(-1);
        }
        let found = replies(&mut connection, &mut hello).await.map_err(|error| error.to_string())?;
        if let Some(reason) = found[1..].iter().find_map(server_error) {
            return Err(reason);
        }
        self.clock.set(&found[1]);
        if let (Some(transaction), Value::BulkString(number)) = (&self.transaction, &found[2])
            && transaction.number.to_string().as_bytes() == number.as_slice()
        {
            let applied = self.transaction.take();
            self.confirm(applied, None);
        }
        self.renewed = Instant::now().checked_sub(RENEW_EVERY).unwrap_or_else(Instant::now);
        self.sources_of.clear();
        self.adopt_inflight(&found[4..]);
        Ok(connection)
    }

    /// Takes what a round trip of which the reply was lost has moved into the in-flight lists.
    fn adopt_inflight(&mut self, lists: &[Value]) {
        for (slot, list) in lists.iter().enumerate() {
            let Value::Array(items) = list else { continue };
            let known: Vec<Arc<[u8]>> = self
                .entries
                .values()
                .filter(|entry| entry.slot == Some(slot))
                .map(|entry| Arc::clone(&entry.raw))
                .collect();
            for item in items {
                if let Value::BulkString(raw) = item
                    && !known.iter().any(|held| held[..] == raw[..])
                    && !self.slots.is_settled(slot, raw)
                {
                    let queue = self.handle.queues().first().cloned().unwrap_or_else(|| Arc::from(""));
                    self.take(raw.clone(), queue, slot);
                }
            }
        }
    }

    async fn serve(
        &mut self,
        connection: &mut MultiplexedConnection,
        pushed: &mut mpsc::UnboundedReceiver<PushInfo>,
        backoff: &mut Backoff,
        stop_fetching: &CancellationToken,
        finish: &CancellationToken,
    ) -> Result<(), String> {
        let mut last_look = Instant::now();
        loop {
            let mut commands = Pipeline::new();
            if self.transaction.is_none() {
                self.transaction = self.gather();
            }
            let committing = self.transaction.as_mut().map(|transaction| transaction.write(&mut commands));
            let fetching = !stop_fetching.is_cancelled();
            let plan = if fetching { self.plan_fetch(&mut commands) } else { Vec::new() };
            // What this worker itself pushes is not announced to it.
            let pushing = self.transaction.as_ref().is_some_and(Transaction::wrote_commands);
            let looking =
                fetching && self.plan_look(&mut commands, pushing || !plan.is_empty(), &mut last_look);
            let renewing = self.plan_renewal(&mut commands);
            if commands.is_empty() {
                if finish.is_cancelled() && self.settlements.is_empty() {
                    return self.leave(connection).await;
                }
                self.wait(pushed, stop_fetching, finish, fetching).await?;
                continue;
            }
            let mut found = match replies(connection, &mut commands).await {
                Ok(found) => found.into_iter(),
                Err(error) => {
                    self.keep_transaction(&commands);
                    return Err(error.to_string());
                }
            };
            if let Some(count) = committing {
                let answers: Vec<Value> = found.by_ref().take(count).collect();
                if let Err(reason) = self.finish_transaction(answers) {
                    self.keep_transaction(&commands);
                    return Err(reason);
                }
            }
            let mut refused = None;
            for (source, slot) in plan {
                match found.next() {
                    Some(Value::BulkString(raw)) => {
                        let queue = Arc::clone(&self.sources[source].queue);
                        self.take(raw, queue, slot);
                    }
                    Some(reply) => refused = refused.or_else(|| server_error(&reply)),
                    None => {}
                }
            }
            if looking {
                for source in &mut self.sources {
                    source.waiting = match found.next() {
                        Some(Value::Int(length)) => usize::try_from(length).unwrap_or(0),
                        _ => 0,
                    };
                }
            }
            if renewing && let Some(time) = found.next() {
                self.clock.set(&time);
            }
            if let Some(reason) = refused.or_else(|| found.find_map(|reply| server_error(&reply))) {
                return Err(reason);
            }
            backoff.reset();
            while let Ok(push) = pushed.try_recv() {
                self.note(&push)?;
            }
        }
    }

    /// Waits until there may be something to do.
    async fn wait(
        &mut self,
        pushed: &mut mpsc::UnboundedReceiver<PushInfo>,
        stop_fetching: &CancellationToken,
        finish: &CancellationToken,
        fetching: bool,
    ) -> Result<(), String> {
        let oldest =
            self.unrecorded.front().and_then(|serial| self.entries.get(serial)).map(|entry| entry.fetched);
        let until = oldest
            .map_or(IDLE_POLL, |fetched| (fetched + RECORD_AFTER).saturating_duration_since(Instant::now()));
        let until = until.min(self.renewal_interval().saturating_sub(self.renewed.elapsed()));
        tokio::select! {
            biased;
            Some(push) = pushed.recv() => self.note(&push)?,
            settlement = self.settlements.recv() => {
                if let Some(settlement) = settlement {
                    self.begin_transaction(settlement);
                }
            }
            () = self.handle.wake.notified() => {}
            () = stop_fetching.cancelled(), if fetching => {}
            () = finish.cancelled(), if !finish.is_cancelled() => {}
            () = tokio::time::sleep(until) => {}
        }
        Ok(())
    }

    /// An invalidation says that one of the lists has changed.
    fn note(&mut self, push: &PushInfo) -> Result<(), String> {
        match push.kind {
            PushKind::Invalidate => {
                let Some(Value::Array(changed)) = push.data.first() else {
                    self.sources.iter_mut().for_each(|source| source.waiting = source.waiting.max(1));
                    return Ok(());
                };
                for key in changed {
                    if let Value::BulkString(key) = key
                        && let Some(source) =
                            self.sources.iter_mut().find(|source| source.key.as_bytes() == &key[..])
                    {
                        source.waiting = source.waiting.max(1);
                    }
                }
                Ok(())
            }
            PushKind::Disconnection => Err("the server closed the connection".to_owned()),
            _ => Ok(()),
        }
    }

    fn take(&mut self, raw: Vec<u8>, queue: Arc<str>, slot: usize) {
        let serial = self.next_serial;
        self.next_serial += 1;
        let raw: Arc<[u8]> = raw.into();
        let message = envelope::decode(&raw);
        let mut entry = Entry {
            tag: String::new(),
            exchange: String::new(),
            routing_key: queue.to_string(),
            priority: 0,
            raw: Arc::clone(&raw),
            queue: Arc::clone(&queue),
            slot: Some(slot),
            fetched: Instant::now(),
        };
        match &message {
            Ok(message) => {
                let properties = &message.properties;
                entry.tag.clone_from(&properties.delivery_tag);
                entry.exchange.clone_from(&properties.delivery_info.exchange);
                entry.routing_key.clone_from(&properties.delivery_info.routing_key);
                entry.priority = properties.priority.unwrap_or(0);
            }
            Err(_) => entry.tag = uuid::Uuid::new_v4().to_string(),
        }
        self.slots.add(slot);
        match self.receiver.receive(Delivery { serial, message }) {
            Taken::Acknowledged => self.slots.settle(slot, entry.raw),
            Taken::Held => {
                self.entries.insert(serial, entry);
                self.unrecorded.push_back(serial);
            }
        }
    }

    /// Starts a transaction with a settlement that ended a wait.
    fn begin_transaction(&mut self, first: Settlement) {
        let transaction = self.collect(Some(first));
        // A message that was acknowledged before, and results in another database, leave nothing to do here.
        self.transaction = (!transaction.is_empty()).then_some(transaction);
    }

    /// Everything that is to be committed now, if there is anything.
    fn gather(&mut self) -> Option<Transaction> {
        let transaction = self.collect(None);
        if transaction.is_empty() { None } else { Some(transaction) }
    }

    fn collect(&mut self, first: Option<Settlement>) -> Transaction {
        let mut transaction = Transaction::default();
        let mut next = first;
        for _ in 0..COMMIT_BATCH {
            let Some(settlement) = next.take().or_else(|| self.settlements.try_recv().ok()) else { break };
            self.add_settlement(&mut transaction, settlement);
        }
        self.add_records(&mut transaction);
        for slot in self.slots.take_finished() {
            transaction.delete.push(self.keys.inflight(&self.worker, slot));
            transaction.slots.push(slot);
        }
        if !transaction.is_empty() {
            self.transaction_number += 1;
            transaction.seal(self.transaction_number, &self.keys, &self.worker);
        }
        transaction
    }

    fn add_settlement(&mut self, transaction: &mut Transaction, settlement: Settlement) {
        let Settlement { serial, disposition, commands, replies } = settlement;
        if disposition == Disposition::Hold {
            if let Some(entry) = serial.and_then(|serial| self.entries.get_mut(&serial)) {
                entry.fetched = entry.fetched.checked_sub(RECORD_AFTER).unwrap_or(entry.fetched);
            }
        } else if let Some(entry) = serial.and_then(|serial| self.entries.remove(&serial)) {
            match disposition {
                Disposition::Requeue => transaction.push("LPUSH", self.home(&entry), redelivered(&entry.raw)),
                Disposition::Restore => transaction.push("RPUSH", self.home(&entry), redelivered(&entry.raw)),
                Disposition::Dead(reason, deliveries) => {
                    if let Some(list) = &self.dead_letters {
                        let home = self.home(&entry);
                        let letter = DeadLetter::new(reason, home, &self.hostname, deliveries, &entry.raw);
                        transaction.push("LPUSH", list.clone(), letter.encode());
                    }
                }
                Disposition::Ack | Disposition::Hold => {}
            }
            match entry.slot {
                Some(slot) => self.slots.settle(slot, entry.raw),
                None => transaction.acked.push(entry.tag),
            }
        }
        transaction.add(commands, replies);
    }

    /// The list that a message goes back to.
    fn home(&self, entry: &Entry) -> String {
        let queue = if entry.exchange.is_empty() { &entry.routing_key } else { &*entry.queue };
        self.keys.queue(queue, entry.priority)
    }

    /// Records what has been in flight for long, and more of it when the in-flight lists run out.
    fn add_records(&mut self, transaction: &mut Transaction) {
        let now = Instant::now();
        let score = self.score();
        while let Some(serial) = self.unrecorded.front() {
            let Some(entry) = self.entries.get_mut(serial) else {
                self.unrecorded.pop_front();
                continue;
            };
            let due = now.saturating_duration_since(entry.fetched) >= RECORD_AFTER || self.slots.is_scarce();
            let Some(slot) = entry.slot.filter(|_| due) else { break };
            entry.slot = None;
            transaction.record(&entry.tag, score, unacked_value(entry));
            self.slots.settle(slot, Arc::clone(&entry.raw));
            self.unrecorded.pop_front();
        }
    }

    /// The score under which a held message is found again soon after its worker died: as if it had been delivered
    /// so long ago that only the lease is left of its visibility timeout.
    fn score(&self) -> f64 {
        let lease = LEASE.min(self.visibility_timeout);
        self.clock.now() - (self.visibility_timeout - lease).as_secs_f64()
    }

    fn plan_fetch(&mut self, commands: &mut Pipeline) -> Vec<(usize, usize)> {
        self.refresh_sources();
        let mut room = self.receiver.capacity().min(FETCH_BATCH);
        if room == 0 || self.sources.iter().all(|source| source.waiting == 0) {
            return Vec::new();
        }
        let Some(slot) = self.slots.open() else { return Vec::new() };
        let list = self.keys.inflight(&self.worker, slot);
        let mut plan = Vec::new();
        let queues = self.sources_of.len();
        for step in 0..self.keys.steps() {
            // Fair among the queues of one step: one message each in turn, starting behind the queue served last.
            while room > 0 {
                let mut took = false;
                for offset in 0..queues {
                    let queue = (self.first_queue + offset) % queues;
                    let index = step * queues + queue;
                    let source = &mut self.sources[index];
                    if source.waiting > 0 && room > 0 {
                        source.waiting -= 1;
                        room -= 1;
                        took = true;
                        commands.cmd("LMOVE").arg(&source.key).arg(&list).arg("RIGHT").arg("LEFT");
                        plan.push((index, slot));
                    }
                }
                self.first_queue = (self.first_queue + 1) % queues.max(1);
                if !took {
                    break;
                }
            }
        }
        plan
    }

    /// Asks how much waits in each list: with each fetch, and now and then while idle.
    fn plan_look(&mut self, commands: &mut Pipeline, fetched: bool, last_look: &mut Instant) -> bool {
        let fresh = self.sources.iter().any(|source| source.waiting == usize::MAX);
        let idle = last_look.elapsed() >= IDLE_POLL && self.receiver.capacity() > 0;
        if !(fetched || fresh || idle) || self.sources.is_empty() {
            return false;
        }
        *last_look = Instant::now();
        for source in &self.sources {
            commands.cmd("LLEN").arg(&source.key);
        }
        true
    }

    fn refresh_sources(&mut self) {
        let queues = self.handle.queues();
        if queues == self.sources_of && !self.sources.is_empty() {
            return;
        }
        self.sources.clear();
        for step in 0..self.keys.steps() {
            for queue in &queues {
                let key = self.keys.queue_steps(queue).swap_remove(step);
                self.sources.push(Source { queue: Arc::clone(queue), key, waiting: 1 });
            }
        }
        self.sources_of = queues;
        self.first_queue = 0;
    }

    fn renewal_interval(&self) -> Duration {
        RENEW_EVERY.min(self.visibility_timeout / 4)
    }

    fn plan_renewal(&mut self, commands: &mut Pipeline) -> bool {
        if self.renewed.elapsed() < self.renewal_interval() {
            return false;
        }
        self.renewed = Instant::now();
        commands.cmd("TIME");
        let lease_end = self.clock.now() + LEASE.as_secs_f64();
        commands.cmd("ZADD").arg(&self.keys.inflight_index).arg(lease_end).arg(&self.worker);
        let score = self.score();
        let held: Vec<&str> = self
            .entries
            .values()
            .filter(|entry| entry.slot.is_none())
            .map(|entry| entry.tag.as_str())
            .collect();
        for tags in held.chunks(500) {
            let command = commands.cmd("ZADD").arg(&self.keys.unacked_index).arg("XX");
            for tag in tags {
                command.arg(score).arg(*tag);
            }
        }
        true
    }

    /// Keeps the transaction that was written into a pipeline and not confirmed.
    fn keep_transaction(&mut self, written: &Pipeline) {
        if let Some(transaction) = &mut self.transaction {
            transaction.take_back(written);
        }
    }

    /// Reads the replies of the transaction in flight.
    fn finish_transaction(&mut self, answers: Vec<Value>) -> Result<(), String> {
        let Some(transaction) = self.transaction.take() else { return Ok(()) };
        match transaction.outcome(answers) {
            Ok(replies) => {
                self.confirm(Some(transaction), Some(replies));
                Ok(())
            }
            Err(reason) => {
                self.transaction = Some(transaction);
                Err(format!("the server refused a transaction: {reason}"))
            }
        }
    }

    fn confirm(&mut self, transaction: Option<Transaction>, replies: Option<Vec<Value>>) {
        if let Some(transaction) = transaction {
            self.slots.free(&transaction.slots);
            transaction.answer(replies);
        }
    }

    async fn leave(&mut self, connection: &mut MultiplexedConnection) -> Result<(), String> {
        let mut farewell = Pipeline::new();
        farewell.cmd("ZREM").arg(&self.keys.inflight_index).arg(&self.worker);
        farewell.cmd("DEL").arg(self.keys.committed(&self.worker));
        replies(connection, &mut farewell).await.map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// The value of a message in the hash of unacknowledged ones: `[envelope, exchange, routing_key]`.
fn unacked_value(entry: &Entry) -> Vec<u8> {
    let mut value = Vec::with_capacity(entry.raw.len() + 64);
    value.push(b'[');
    value.extend_from_slice(&entry.raw);
    value.extend_from_slice(b", ");
    json::write(&crate::message::Value::Str(entry.exchange.clone()), &mut value);
    value.extend_from_slice(b", ");
    json::write(&crate::message::Value::Str(entry.routing_key.clone()), &mut value);
    value.push(b']');
    value
}

fn redelivered(raw: &[u8]) -> Vec<u8> {
    envelope::mark_redelivered(raw).unwrap_or_else(|_| raw.to_vec())
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
