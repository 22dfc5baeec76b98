//! The consumer: one loop that fetches, records, acknowledges and commits, a batch of everything at each round trip.
//!
//! A message leaves its queue by `LMOVE` into an in-flight list of this worker, so that it is somewhere at every
//! instant. A message that is settled at once is simply deleted from there; one that stays is first recorded in
//! kombu's `unacked` keys, from which any worker of the fleet can bring it back. See
//! `docs/adr/0002-fetching-from-redis.md`.

mod apart;
mod aside;
mod bindings;
mod commit;
mod connect;
mod full;
mod held;
mod lease;
mod parked;
mod part;
mod refused;
mod source;
mod sources;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::{Pipeline, PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use part::Part;

use super::clock::ServerClock;
use super::connection::{Connection, replies, server_error};
use super::exchange::is_full;
use super::inflight::Slots;
use super::lists::Lists;
use super::refusal::is_passing;
use super::selection::Results;
use super::transaction::Transaction;
use super::{DeadLetterQueue, Keys, Link, Queues};
use crate::backoff::Backoff;
use crate::broker::refusals::{Refusal, Refusals, Work};
use crate::broker::troubles::Troubles;
use crate::broker::{self, BrokerError, ConsumerHandle, Delivery, Persistence, Receiver, Settlement, Taken};
use crate::config::{Config, QueueOrder};
use crate::failpoints::fail_point;
use crate::heavy::{LARGE, aside};
use crate::message::{Parts, envelope};
use aside::Aside;
use bindings::Bindings;
use full::Full;
pub(crate) use held::Entry;
use held::Held;
pub(crate) use parked::MARK;
use parked::Parked;
use sources::{Fetch, Look, Sources};

/// Most messages that one round trip fetches.
const FETCH_BATCH: usize = 256;

/// How long an acknowledgement waits for a task that is just beginning.
const MOMENT: Duration = Duration::from_millis(1);

/// How long a worker that ends waits for memory at the broker.
const LAST_CHANCE: Duration = Duration::from_secs(20);

/// How long a worker that ends waits for a broker that is away.
const AWAY: Duration = Duration::from_secs(5);

/// Returns when a broker that is away is no longer to be waited for.
async fn gone(finish: &CancellationToken) {
    finish.cancelled().await;
    tokio::time::sleep(AWAY).await;
}

/// The consumer's loop and its state.
pub(crate) struct Consumer<R> {
    link: Link,
    keys: Arc<Keys>,
    worker: String,
    visibility_timeout: Duration,
    hostname: String,
    dead_letters: Option<DeadLetterQueue>,
    persistence: Persistence,
    receiver: Arc<R>,
    handle: ConsumerHandle,
    settlements: mpsc::UnboundedReceiver<Settlement>,
    /// What the last round trip has brought and the receiver does not have yet.
    arrived: Vec<Arrival>,
    held: Held,
    slots: Slots,
    sources: Sources,
    parked: Parked,
    bindings: Bindings,
    /// Claimed messages that are done with.
    acknowledged: Vec<Entry>,
    /// Whether the receiver wanted more when it was asked last.
    has_room: bool,
    clock: ServerClock,
    renewed: Instant,
    /// The number that the server gave the last connection.
    connection_id: Option<i64>,
    /// What is committed now, until the server has confirmed it.
    transaction: Option<Transaction>,
    transaction_number: u64,
    full: Full,
    /// Whether others know that what this worker holds is held; nothing is fetched without that.
    is_leased: bool,
    refusals: Arc<Refusals>,
    /// The key of a result, if results are kept in the same database.
    result_key: Option<String>,
    /// Where results are.
    results: Results,
    /// The queues that the last round trip asked for messages, and the in-flight list for them, if its reply was lost.
    unanswered: Option<(usize, Vec<Arc<str>>)>,
    /// Settlements that were refused, and those among which one is looked for.
    aside: Aside,
    /// Held messages that are to be recorded again.
    unrecorded: Vec<u64>,
    /// How the connection broke on which the present transaction was sent.
    broke: Option<String>,
    /// The most bytes that the server takes as one argument, as far as it was asked.
    bulk_limit: Option<u64>,
    troubles: Troubles,
    lists: Lists,
}

/// How a consumer of a Redis server is set up.
pub(crate) struct ConsumerOptions {
    common: broker::ConsumerOptions,
    visibility_timeout: Duration,
    /// How long a lost broker is tried.
    persistence: Persistence,
    /// In which order queues of equal priority are served.
    queue_order: QueueOrder,
    /// The key of a result, if results are kept in the same database.
    result_key: Option<String>,
}

impl ConsumerOptions {
    pub(crate) fn new(common: broker::ConsumerOptions, config: &Config, result_key: Option<String>) -> Self {
        let transport = &config.broker_transport_options;
        Self {
            common,
            visibility_timeout: transport.visibility_timeout(),
            persistence: Persistence::new(config),
            queue_order: transport.queue_order(),
            result_key,
        }
    }
}

/// A message that has come to this worker.
struct Arrival {
    raw: Bytes,
    queue: Arc<str>,
    /// The in-flight list into which it was moved; `None` if it was parked and is recorded.
    slot: Option<usize>,
}

/// What ends a consumer.
struct Ending {
    /// Nothing more is to be fetched.
    stop_fetching: CancellationToken,
    /// Nothing more will be settled.
    finish: CancellationToken,
}

/// What one round trip asks, in the order of the replies.
struct RoundTrip {
    commands: Pipeline,
    /// How many replies belong to the transaction.
    committing: Option<usize>,
    /// From which set messages are asked for that are due.
    claim: Option<usize>,
    fetch: Option<Fetch>,
    looking: Option<Look>,
    /// Of which sets it is asked when something is due.
    reading: Vec<usize>,
    /// Of which exchanges the bindings are written.
    binding: Vec<usize>,
    renewing: bool,
}

impl<R: Receiver> Consumer<R> {
    /// A consumer that hands messages to the receiver that `make` builds.
    pub(crate) fn new(
        broker: &Queues,
        options: ConsumerOptions,
        make: impl FnOnce(ConsumerHandle) -> Arc<R>,
    ) -> Self {
        let ConsumerOptions { common, visibility_timeout, persistence, queue_order, result_key } = options;
        let (handle, settlements) = ConsumerHandle::new(common.queues);
        Self {
            link: broker.link().clone(),
            keys: Arc::clone(broker.keys()),
            worker: common.worker,
            visibility_timeout,
            hostname: common.hostname,
            dead_letters: broker.dead_letters().cloned(),
            persistence,
            receiver: make(handle.clone()),
            troubles: handle.troubles().clone(),
            lists: broker.lists.clone(),
            handle,
            settlements,
            arrived: Vec::new(),
            held: Held::default(),
            slots: Slots::default(),
            sources: Sources::new(queue_order),
            parked: Parked::default(),
            bindings: Bindings::default(),
            acknowledged: Vec::new(),
            has_room: false,
            clock: ServerClock::default(),
            renewed: Instant::now(),
            connection_id: None,
            transaction: None,
            transaction_number: 0,
            full: Full::default(),
            is_leased: true,
            refusals: common.refusals,
            result_key,
            results: broker.results().clone(),
            unanswered: None,
            aside: Aside::default(),
            unrecorded: Vec::new(),
            broke: None,
            bulk_limit: None,
        }
    }

    /// Who gets the messages.
    pub(crate) fn receiver(&self) -> &Arc<R> {
        &self.receiver
    }

    /// Consumes until `stop_fetching` and then commits what is settled until `finish`.
    ///
    /// # Errors
    /// [`BrokerError::GaveUp`] when the broker is not to be tried again; fetching is stopped then.
    pub(crate) async fn run(
        mut self,
        stop_fetching: CancellationToken,
        finish: CancellationToken,
    ) -> Result<(), BrokerError> {
        let ending = Ending { stop_fetching, finish };
        let mut backoff = Backoff::default();
        let mut since = None;
        loop {
            let (pushes, mut pushed) = mpsc::unbounded_channel();
            let connected = tokio::select! {
                biased;
                connected = self.connect(pushes) => connected,
                () = gone(&ending.finish) => Err("it is away while the worker ends".to_owned()),
            };
            let (event, failure) = match connected {
                Ok(mut connection) => {
                    self.persistence.reached();
                    self.look_after_break(&mut connection).await;
                    let served = self.serve(&mut connection, &mut pushed, &mut backoff, &ending).await;
                    self.hand_over();
                    match served {
                        Ok(()) => return Ok(()),
                        Err(error) => {
                            self.link.note_refusal(&connection, &error);
                            ("Connection to broker lost, reconnecting", error)
                        }
                    }
                }
                Err(error) => ("Cannot connect to broker", error),
            };
            if let Err(error) = self.persistence.failed(self.link.endpoint(), &failure) {
                ending.stop_fetching.cancel();
                return Err(error);
            }
            if ending.stop_fetching.is_cancelled() {
                self.handle.end_fetching();
            }
            let pause = backoff.next();
            let (attempt, seconds) = (backoff.attempts(), pause.as_secs_f64());
            log::error!(broker:% = self.link.endpoint(), attempt; "{event}: {failure}. Trying again in {seconds:.2} s (attempt {attempt})");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = ending.finish.cancelled(), if self.held.is_empty() && self.transaction.is_none() => return Ok(()),
            }
            if ending.finish.is_cancelled() && since.get_or_insert_with(Instant::now).elapsed() > AWAY {
                log::error!(unsettled = self.held.len(); "Leaving without the broker: unsettled messages come back after the lease");
                return Ok(());
            }
        }
    }

    async fn serve(
        &mut self,
        connection: &mut Connection,
        pushed: &mut mpsc::UnboundedReceiver<PushInfo>,
        backoff: &mut Backoff,
        ending: &Ending,
    ) -> Result<(), String> {
        let mut finishing = None;
        loop {
            self.gather(None);
            let fetching = !ending.stop_fetching.is_cancelled();
            if !fetching && self.arrived.is_empty() {
                self.handle.end_fetching();
            }
            let mut trip = self.plan(fetching);
            if trip.commands.is_empty() {
                if !self.arrived.is_empty() {
                    self.hand_over_and_step_back().await;
                    continue;
                }
                if ending.finish.is_cancelled() && self.settlements.is_empty() {
                    let finishing = *finishing.get_or_insert_with(Instant::now);
                    let waiting = self.full.len() + self.aside.len();
                    if self.full.len() == 0 && self.aside.is_kept_by_server() {
                        return self.leave(connection).await;
                    } else if finishing.elapsed() > LAST_CHANCE {
                        log::error!(unsettled = waiting; "Leaving a broker that refuses {waiting} settlement(s): what is not acknowledged comes back after the lease, results and messages of the others are lost");
                        return Ok(());
                    }
                }
                self.wait(pushed, ending).await?;
                continue;
            }
            // The server works on this round trip while the receiver takes what the one before has brought.
            let meanwhile = async {
                tokio::task::yield_now().await;
                self.hand_over();
            };
            let (found, ()) = tokio::join!(biased; replies(connection, &mut trip.commands), meanwhile);
            match found {
                Ok(found) => self.absorb(trip, found)?,
                Err(error) => {
                    self.unanswered =
                        trip.fetch.map(|fetch| (fetch.slot, self.sources.queues_of(&fetch.lists)));
                    self.keep_transaction(&trip.commands);
                    self.broke =
                        (!error.is_timeout() && trip.committing.is_some()).then(|| error.to_string());
                    return Err(error.to_string());
                }
            }
            backoff.reset();
            while let Ok(push) = pushed.try_recv() {
                self.note(&push)?;
            }
        }
    }

    /// Finds out after a break whether it was something in the present transaction that broke the connection.
    async fn look_after_break(&mut self, connection: &mut Connection) {
        if let Some(reason) = self.broke.take()
            && self.transaction.is_some()
        {
            self.learn_limit(connection).await;
            // Whatever is found, the connection is a new one.
            let _ = self.look_for_culprit(&reason, true);
        }
    }

    /// Everything that is to be asked of the server now.
    fn plan(&mut self, fetching: bool) -> RoundTrip {
        let mut commands = Pipeline::new();
        let full = self.full.is_on();
        let scratch = self.keys.scratch(&self.worker);
        let selection = self.results.selection();
        let committing = self.transaction.as_mut().map(|transaction| match full {
            false => transaction.write(selection, &mut commands),
            true => transaction.write_exchange(selection, &scratch, &mut commands),
        });
        let wrote = self.transaction.as_ref().is_some_and(Transaction::wrote_commands);
        let (mut claim, mut fetch, mut looking) = (None, None, None);
        let (mut reading, mut binding) = (Vec::new(), Vec::new());
        self.has_room = false;
        if fetching {
            if self.sources.set_queues(self.handle.queues(), &self.keys) {
                self.parked.set_queues(self.sources.queues(), &self.keys);
                self.forgive_other_queues();
            }
            // What this worker itself pushes is not announced to it.
            let pushing = match wrote {
                true if full => {
                    self.sources.note_changes(None);
                    true
                }
                true => self.sources.note_pushes(commands.cmd_iter()),
                false => false,
            };
            let is_held_back = self.full.is_choked() || self.aside.is_choked() || !self.is_leased;
            let mut room = if is_held_back { 0 } else { self.room() };
            self.has_room = room > 0;
            let due = if self.sources.is_waiting() { room.div_ceil(2) } else { room };
            claim = self.plan_claim(due, &mut commands);
            room -= if claim.is_some() { due } else { 0 };
            fetch = self.plan_fetch(room, &mut commands);
            looking = self.sources.look(pushing || fetch.is_some(), room > 0, &mut commands);
            reading = self.parked.read(&mut commands);
            binding = self.plan_bindings(&mut commands);
        }
        let renewing = self.plan_renewal(&mut commands);
        RoundTrip { commands, committing, claim, fetch, looking, reading, binding, renewing }
    }

    fn plan_fetch(&mut self, room: usize, commands: &mut Pipeline) -> Option<Fetch> {
        if room == 0 || !self.sources.is_waiting() {
            return None;
        }
        let slot = self.slots.open()?;
        let full = self.full.is_on();
        let lists = self.sources.fetch(room, &self.keys.inflight(&self.worker, slot), full, commands);
        Some(Fetch { slot, lists })
    }

    /// Takes in what the server replied.
    fn absorb(&mut self, trip: RoundTrip, found: Vec<Value>) -> Result<(), String> {
        let mut found = found.into_iter();
        if let Some(count) = trip.committing {
            let answers: Vec<Value> = found.by_ref().take(count).collect();
            self.finish_transaction(answers, &trip.commands)?;
        }
        let mut refused = None;
        if let Some(set) = trip.claim {
            let reply = found.next();
            refused = self.take_claimed(set, reply);
        }
        if let Some(Fetch { slot, lists }) = trip.fetch {
            fail_point!("fetch.moved");
            for list in lists {
                match found.next() {
                    Some(Value::BulkString(raw)) => {
                        self.slots.add(slot);
                        let (raw, queue) = (raw.into(), self.sources.note_moved(list));
                        self.arrived.push(Arrival { raw, queue, slot: Some(slot) });
                    }
                    Some(Value::Nil) => self.sources.note_empty(list),
                    Some(reply) => {
                        refused = self.note_unfetched(list, &reply).or(refused);
                        continue;
                    }
                    None => {}
                }
                if let Some(queue) = self.sources.note_taken(list) {
                    self.refusals.end(Work::Fetch, &queue);
                }
            }
        }
        if let Some(look) = trip.looking {
            self.sources.note_look(look, &mut found);
        }
        for (set, reply) in trip.reading.into_iter().zip(found.by_ref()) {
            self.parked.note_next(set, &reply, self.clock.now());
        }
        for exchange in trip.binding {
            let replies: Vec<Value> = found.by_ref().take(bindings::REPLIES).collect();
            refused = self.take_bindings(exchange, &replies).or(refused);
        }
        if trip.renewing
            && let Some(time) = found.next()
        {
            self.clock.set(&time);
            refused = self.note_renewed(found).or(refused);
        }
        match refused {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    /// How many more messages are wanted now.
    fn room(&self) -> usize {
        self.receiver.capacity().saturating_sub(self.arrived.len()).min(FETCH_BATCH)
    }

    /// Why the server refused something, unless it only has no memory for it.
    fn refused(&mut self, reply: &Value) -> Option<String> {
        let reason = server_error(reply)?;
        if !is_full(&reason) {
            return Some(reason);
        }
        self.full.begin();
        self.renew_soon();
        None
    }

    /// Notes that the server refuses something beside which the rest goes on; returns why, if it refuses everything now.
    fn note_refusal(&mut self, reply: &Value, work: Work, subject: &str) -> Option<String> {
        let reason = self.refused(reply)?;
        if is_passing(&reason) {
            return Some(reason);
        }
        self.refusals.note(Refusal::new(work, subject, reason));
        None
    }

    fn note_unfetched(&mut self, list: usize, reply: &Value) -> Option<String> {
        if server_error(reply).is_some_and(|reason| is_passing(&reason)) {
            return self.refused(reply);
        }
        let queue = self.sources.note_refused(list);
        self.note_refusal(reply, Work::Fetch, &queue)
    }

    /// Forgets what was refused of queues that are consumed no longer.
    fn forgive_other_queues(&self) {
        for Refusal { work, subject, .. } in self.refusals.all() {
            let is_consumed = self.sources.queues().iter().any(|queue| **queue == *subject);
            if matches!(work, Work::Fetch | Work::Etas) && !is_consumed {
                self.refusals.end(work, &subject);
            }
        }
    }

    /// Hands the messages that the last round trip has brought to the receiver.
    fn hand_over(&mut self) {
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
            let delivery =
                Delivery { serial, queue: Arc::clone(&queue), message, was_parked: slot.is_none() };
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
    async fn hand_over_and_step_back(&mut self) {
        drop(tokio::spawn(async {}));
        self.hand_over();
        let _ = tokio::time::timeout(MOMENT, tokio::task::yield_now()).await;
    }

    /// Waits until there may be something to do.
    async fn wait(
        &mut self,
        pushed: &mut mpsc::UnboundedReceiver<PushInfo>,
        ending: &Ending,
    ) -> Result<(), String> {
        let Ending { stop_fetching, finish } = ending;
        let now = Instant::now();
        let until = self.held.record_at().map_or(Duration::MAX, |time| time.saturating_duration_since(now));
        let until = until.min(self.sources.wake_in(self.has_room));
        let until = until.min(self.renewal_interval().saturating_sub(self.renewed.elapsed()));
        let until =
            self.full.try_again_at().map_or(until, |time| until.min(time.saturating_duration_since(now)));
        let until = self.aside.due().map_or(until, |time| until.min(time.saturating_duration_since(now)));
        let parked = self.parked.wake_in(self.clock.now(), self.has_room);
        let wakes = [parked, self.bindings.wake_in()].into_iter().flatten().min();
        let until = wakes.filter(|_| !stop_fetching.is_cancelled()).map_or(until, |wait| until.min(wait));
        tokio::select! {
            biased;
            Some(push) = pushed.recv() => self.note(&push)?,
            settlement = self.settlements.recv() => self.gather(settlement),
            () = self.handle.woken() => {}
            () = stop_fetching.cancelled(), if !stop_fetching.is_cancelled() => {}
            () = finish.cancelled(), if !finish.is_cancelled() => {}
            () = tokio::time::sleep(until) => {}
        }
        Ok(())
    }

    /// Takes what the server says unasked: that a list has changed, or that the connection ends.
    fn note(&mut self, push: &PushInfo) -> Result<(), String> {
        match push.kind {
            PushKind::Invalidate => {
                self.sources.note_changes(push.data.first());
                self.parked.note_changes(push.data.first());
                self.bindings.note_changes(push.data.first());
            }
            PushKind::Disconnection => return Err("the server closed the connection".to_owned()),
            _ => {}
        }
        Ok(())
    }
}
