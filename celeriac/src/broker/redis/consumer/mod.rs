//! The consumer: one loop that fetches, records, acknowledges and commits, a batch of everything at each round trip.
//!
//! A message leaves its queue by `LMOVE` into an in-flight list of this worker, so that it is somewhere at every
//! instant. A message that is settled at once is simply deleted from there; one that stays is first recorded in
//! kombu's `unacked` keys, from which any worker of the fleet can bring it back. See
//! `docs/adr/0002-fetching-from-redis.md`.

mod apart;
mod arrival;
mod aside;
mod beside;
mod bindings;
mod commit;
mod connect;
mod full;
mod held;
mod lease;
mod parked;
mod part;
mod refused;
mod round_trip;
mod sizes;
mod source;
mod sources;

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{PushInfo, PushKind};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use part::Part;

use super::clock::ServerClock;
use super::connection::{Connection, replies};
use super::inflight::Slots;
use super::lists::Lists;
use super::selection::Results;
use super::transaction::Transaction;
use super::{DeadLetterQueue, Keys, Link, Queues};
use crate::backoff::Backoff;
use crate::broker::refusals::Refusals;
use crate::broker::troubles::Troubles;
use crate::broker::{self, BrokerError, ConsumerHandle, Persistence, Receiver, Settlement};
use crate::config::{Config, QueueOrder};
use arrival::Arrival;
use aside::Aside;
use bindings::Bindings;
use full::Full;
pub(crate) use held::Entry;
use held::Held;
pub(crate) use lease::takeover;
pub(crate) use parked::MARK;
use parked::Parked;
use sources::Sources;

/// Most messages that one round trip fetches.
const FETCH_BATCH: usize = 256;

/// About how many bytes of messages one round trip fetches at most.
const FETCH_BYTES: usize = 4 << 20;

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

/// What ends a consumer.
struct Ending {
    /// Nothing more is to be fetched.
    stop_fetching: CancellationToken,
    /// Nothing more will be settled.
    finish: CancellationToken,
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
