//! Brokers and result backends as a worker uses them, for the tests that every kind of them has to pass.

mod backend;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::Celery;
use crate::backend::TaskMeta;
use crate::broker::refusals::Refusals;
use crate::broker::{
    Batch, Broker, BrokerError, ConsumerHandle, ConsumerOptions, DeadReason, Delivery, Disposition, Hopeless,
    Receiver, Room, Settlement, Start, Taken,
};
use crate::message::Message;

pub use backend::{BackendSeam, PartTaken, Waited};

type Outcome<T = ()> = Result<T, BrokerError>;

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug)]
pub enum Settle {
    /// It is done with.
    Ack,
    /// Back behind everything that waits.
    Requeue,
    /// Back to be delivered next.
    Restore,
    /// It is put aside until then.
    Park(DateTime<Utc>),
    /// It is given up.
    Dead(DeadReason),
}

impl From<Settle> for Disposition {
    fn from(settle: Settle) -> Self {
        match settle {
            Settle::Ack => Self::Ack,
            Settle::Requeue => Self::Requeue,
            Settle::Restore => Self::Restore,
            Settle::Park(eta) => Self::Park(eta),
            Settle::Dead(reason) => Self::Dead(reason, Vec::new()),
        }
    }
}

/// A message that a consumer was handed.
#[derive(Debug)]
pub struct Delivered {
    /// By which it is settled.
    pub serial: u64,
    /// The queue that it came from.
    pub queue: String,
    /// The message, or why it cannot be read.
    pub message: Result<Message, String>,
    /// Whether it was put aside before and is due now.
    pub was_parked: bool,
}

impl Delivered {
    /// The id of its task.
    pub fn id(&self) -> &str {
        self.message.as_ref().ok().and_then(|message| message.headers.id.as_deref()).unwrap_or_default()
    }

    /// Whether it is marked as one that was delivered before.
    pub fn is_redelivered(&self) -> bool {
        let marked =
            |message: &Message| message.headers.redelivered || message.properties.delivery_info.redelivered;
        self.message.as_ref().is_ok_and(marked)
    }
}

/// A consumer that hands its messages to a test.
pub struct TestConsumer {
    handle: ConsumerHandle,
    deliveries: Mutex<mpsc::UnboundedReceiver<Delivered>>,
    room: Arc<AtomicUsize>,
    stop_fetching: CancellationToken,
    finish: CancellationToken,
    running: JoinHandle<Outcome>,
    broker: Broker,
}

struct Taker {
    deliveries: mpsc::UnboundedSender<Delivered>,
    room: Arc<AtomicUsize>,
    /// For how many bytes of bodies there is room.
    bytes: AtomicUsize,
    acks_early: bool,
}

impl Receiver for Taker {
    fn capacity(&self) -> Room {
        Room::new(self.room.load(Ordering::SeqCst), self.bytes.load(Ordering::SeqCst))
    }

    fn receive(self: &Arc<Self>, delivery: Delivery) -> Taken {
        let Delivery { serial, queue, message, was_parked, .. } = delivery;
        self.room.fetch_sub(1, Ordering::SeqCst);
        let message = message.map(|parts| parts.message()).map_err(|refused| refused.0.to_string());
        let taken = message.as_ref().map_or(0, |message| message.body.len());
        let left = self.bytes.load(Ordering::SeqCst).saturating_sub(taken);
        self.bytes.store(left, Ordering::SeqCst);
        // The test may have left.
        let _ = self.deliveries.send(Delivered { serial, queue: queue.to_string(), message, was_parked });
        if self.acks_early { Taken::Acknowledged } else { Taken::Held }
    }

    fn refused(self: &Arc<Self>, hopeless: Hopeless) {
        log::error!("settlement {} is refused: {}", hopeless.number, hopeless.refusal);
    }

    fn separated(self: &Arc<Self>, settlement: Settlement) {
        log::error!("settlement of {:?} cannot be committed together with results", settlement.serial);
    }
}

impl TestConsumer {
    /// Consumes from queues of an application, with room for so many messages.
    pub fn open(app: &Celery, queues: &[&str], room: usize) -> Self {
        Self::open_as(app, queues, room, usize::MAX, false)
    }

    /// The same with room for so many bytes of bodies besides.
    pub fn open_within(app: &Celery, queues: &[&str], room: usize, bytes: usize) -> Self {
        Self::open_as(app, queues, room, bytes, false)
    }

    /// The same that acknowledges each message as it comes.
    pub fn open_early(app: &Celery, queues: &[&str], room: usize) -> Self {
        Self::open_as(app, queues, room, usize::MAX, true)
    }

    fn open_as(app: &Celery, queues: &[&str], room: usize, bytes: usize, acks_early: bool) -> Self {
        let (sender, deliveries) = mpsc::unbounded_channel();
        let room = Arc::new(AtomicUsize::new(room));
        let options = ConsumerOptions {
            worker: uuid::Uuid::new_v4().simple().to_string(),
            queues: queues.iter().map(|queue| Arc::from(*queue)).collect(),
            hostname: "test@seam".to_owned(),
            refusals: Arc::<Refusals>::default(),
        };
        let mut made = None;
        let taker =
            Taker { deliveries: sender, room: Arc::clone(&room), bytes: AtomicUsize::new(bytes), acks_early };
        let taker = Arc::new(taker);
        let broker = app.broker().clone();
        let (_, consumer) = broker.consumer(options, app.config(), app.result_backend(), |handle| {
            made = Some(handle);
            taker
        });
        let (stop_fetching, finish) = (CancellationToken::new(), CancellationToken::new());
        let running = tokio::spawn(consumer.run(stop_fetching.clone(), finish.clone()));
        let handle = made.unwrap_or_else(|| unreachable!("the consumer has asked for its receiver"));
        Self { handle, deliveries: Mutex::new(deliveries), room, stop_fetching, finish, running, broker }
    }

    /// The next message; `None` when none comes within that time.
    pub async fn next(&self, within: Duration) -> Option<Delivered> {
        let mut deliveries = self.deliveries.lock().await;
        tokio::time::timeout(within, deliveries.recv()).await.ok().flatten()
    }

    /// Makes room for so many messages more.
    pub fn make_room(&self, room: usize) {
        self.room.fetch_add(room, Ordering::SeqCst);
        self.handle.wake();
    }

    /// Consumes from these queues from now on.
    pub fn set_queues(&self, queues: &[&str]) {
        self.handle.set_queues(queues.iter().map(|queue| Arc::from(*queue)).collect());
    }

    /// Settles a delivery and publishes messages with it; returns when the broker has confirmed both.
    pub async fn settle(&self, serial: u64, settle: Settle, publish: &[Message]) -> Outcome {
        let batch = self.broker.publications(publish).await?;
        self.commit(Some(serial), settle, batch).await
    }

    /// Says that a delivery stays for long; nothing is answered to that.
    pub fn hold(&self, serial: u64) {
        self.handle.settle(Settlement::of(serial, Disposition::Hold));
    }

    async fn commit(&self, serial: Option<u64>, settle: Settle, batch: Batch) -> Outcome {
        let (listener, answers) = oneshot::channel();
        let settlement = Settlement::commit(settle.into(), batch);
        self.handle.settle(Settlement { serial, answers: Some(listener), ..settlement });
        match answers.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refusal)) => panic!("refused: {refusal}"),
            Err(_) => panic!("the consumer has ended"),
        }
    }

    /// Settles a delivery together with the record of its task.
    pub async fn settle_with_result(&self, app: &Celery, serial: u64, meta: &TaskMeta) -> Outcome {
        let Some(backend) = app.result_backend() else { return Ok(()) };
        self.commit(Some(serial), Settle::Ack, backend.storing(meta, true)).await
    }

    /// Ends as a worker does that shuts down: nothing more is fetched, what is settled is committed.
    pub async fn leave(self) -> Outcome {
        self.stop_fetching.cancel();
        self.handle.fetching_ended().await;
        self.finish.cancel();
        self.running.await.unwrap_or(Ok(()))
    }

    /// Ends as a worker does that dies.
    pub async fn die(self) {
        self.running.abort();
        // It was aborted.
        let _ = self.running.await;
    }
}

/// A broker as the worker sees it.
pub struct BrokerSeam(Broker);

impl BrokerSeam {
    /// That of an application.
    pub fn of(app: &Celery) -> Self {
        Self(app.broker().clone())
    }

    /// As [`Broker::joins`].
    pub fn joins(&self, app: &Celery) -> bool {
        app.result_backend().is_some_and(|backend| self.0.joins(backend))
    }

    /// As [`Broker::rank`].
    pub fn rank(&self, priority: u8) -> u8 {
        self.0.rank(priority)
    }

    /// As [`Broker::count_start`].
    pub async fn count_start(&self, delivery_tag: &str, hostname: &str) -> Outcome<Option<Vec<Start>>> {
        self.0.count_start(delivery_tag, &Start::now(hostname)).await
    }

    /// Carries out [`Broker::forget_starts`].
    pub async fn forget_starts(&self, delivery_tag: &str) -> Outcome {
        self.0.carry_out(self.0.forget_starts(delivery_tag)).await.map(drop)
    }

    /// Publishes messages if the mark of a chord's body is not set, and sets it; `None` without marks.
    pub async fn publish_once(
        &self,
        group_id: &str,
        tag: &str,
        messages: &[Message],
    ) -> Outcome<Option<bool>> {
        let Some(guard) = self.0.mark_sent(group_id, tag) else { return Ok(None) };
        let then = self.0.publications(messages).await?;
        let answers = self.0.carry_out(self.0.guarded(guard, [then])).await?;
        Ok(Some(answers.were_allowed()))
    }

    /// Keeps a message among the dead letters.
    pub async fn bury(&self, message: &Message, queue: &str) -> Outcome {
        let letter = self.0.letter(DeadReason::Malformed, message, queue, "test@seam");
        self.0.carry_out(letter).await.map(drop)
    }

    /// Listens to an exchange.
    pub async fn subscribe(&self, exchange: &str, routing_key: &str) -> crate::broker::Subscription {
        self.0.subscribe(&[(exchange, routing_key)]).await
    }
}

/// Puts bytes into a queue in memory that may be no message.
///
/// # Panics
/// When the broker is not in memory.
pub fn inject(app: &Celery, queue: &str, raw: &'static [u8]) {
    let push = |state: &mut crate::broker::memory::State| {
        let rank = state.rank(0);
        state.queues.entry(queue.to_owned()).or_default().push(rank, raw.into());
    };
    crate::testing::sent::server(app).change(push);
}
