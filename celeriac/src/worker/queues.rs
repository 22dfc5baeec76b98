//! The queues that a worker consumes: which, as what they are declared, and those whose messages all workers get.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::WorkerError;
use super::runtime::Runtime;
use crate::app::Result;
use crate::backoff::Backoff;
use crate::broker::{Binding, Delivery, Receiver};
use crate::config::Config;
use crate::control::QueueInfo;
use crate::node::lock;

/// How often it is seen whether the worker has room for another message of a broadcast queue.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(20);
/// Deliveries of broadcast queues are numbered from here, apart from those of the consumer.
const FIRST_SERIAL: u64 = 1 << 63;

/// Whether the broker keeps a delivery until it is settled; one of a broadcast queue is nowhere but here.
pub(super) fn is_kept(serial: u64) -> bool {
    serial < FIRST_SERIAL
}

/// What a worker consumes.
#[derive(Default)]
pub(crate) struct Consumed {
    /// The queues as they are declared.
    declared: HashMap<Arc<str>, QueueInfo>,
    /// Ends the listening to a broadcast queue.
    broadcasts: HashMap<Arc<str>, CancellationToken>,
}

/// The names of all queues that the settings declare.
pub(super) fn default_names(config: &Config) -> Vec<String> {
    match &config.task_queues {
        Some(queues) => queues.0.iter().map(|queue| queue.name.clone()).collect(),
        None => vec![config.task_default_queue.clone()],
    }
}

/// The queues of those names, and with `worker_direct` that of the worker alone, as they are to be declared.
///
/// Source: celery 5.7 `setup_queues` in `celery/worker/worker.py`.
pub(super) fn declare(config: &Config, names: &[String], hostname: &str) -> Result<Vec<QueueInfo>> {
    let declared = names.iter().map(|name| {
        let queue = config.queue(name).ok_or_else(|| WorkerError::UndefinedQueue { queue: name.clone() })?;
        Ok(QueueInfo::bound(name, &queue.exchange, queue.exchange_type.as_str(), &queue.routing_key))
    });
    let direct = config.worker_direct.then(|| {
        let queue = QueueInfo::bound(&format!("{hostname}.dq2"), "C.dq2", "direct", hostname);
        Ok(QueueInfo { auto_delete: true, ..queue })
    });
    declared.chain(direct).collect()
}

/// Whether every worker gets its own copy of the queue's messages.
pub(super) fn is_broadcast(queue: &QueueInfo) -> bool {
    queue.exchange.exchange_type == "fanout"
}

impl Runtime {
    /// The queues that are consumed, as they are declared.
    pub(super) fn consumed(&self) -> Vec<QueueInfo> {
        let consumed = lock(&self.consumed);
        let known =
            |name: &Arc<str>| consumed.declared.get(name).cloned().unwrap_or_else(|| QueueInfo::named(name));
        let names = self.consumer.queues();
        names.iter().chain(consumed.broadcasts.keys()).map(known).collect()
    }

    /// Begins to consume a queue.
    pub(super) fn consume(self: &Arc<Self>, queue: &QueueInfo) {
        let name: Arc<str> = queue.name.as_str().into();
        let mut consumed = lock(&self.consumed);
        consumed.declared.insert(Arc::clone(&name), queue.clone());
        if is_broadcast(queue) {
            let stop = self.life.stopping.child_token();
            if let Some(before) = consumed.broadcasts.insert(name, stop.clone()) {
                before.cancel();
            }
            let (runtime, queue) = (Arc::clone(self), queue.clone());
            self.life.background.spawn_on(async move { runtime.listen(queue, stop).await }, &self.handle);
            return;
        }
        let mut names = self.consumer.queues().to_vec();
        if !names.contains(&name) {
            names.push(name);
            self.consumer.set_queues(names);
        }
    }

    /// Binds a queue to its exchange, so that others find it, and keeps it bound.
    pub(super) async fn bind(&self, queue: &QueueInfo) {
        let QueueInfo { name, exchange, routing_key, .. } = queue;
        if exchange.name.is_empty() || is_broadcast(queue) {
            return;
        }
        let broker = self.app.broker();
        if let Err(error) = broker.bind(&exchange.name, &exchange.exchange_type, routing_key, name).await {
            log::warn!(queue = name.as_str(), error:% = error; "Queue {name} could not be declared: {error}");
        }
        self.consumer.keep_bound(Binding {
            queue: name.as_str().into(),
            exchange: exchange.name.clone(),
            exchange_type: exchange.exchange_type.clone(),
            routing_key: routing_key.clone(),
        });
    }

    /// The first queue that is consumed from, or else the default one.
    pub(super) fn first_queue(&self) -> String {
        let queues = self.consumer.queues();
        queues.first().map_or_else(|| self.config().task_default_queue.clone(), |queue| queue.to_string())
    }

    /// Empties queues before the first message is taken; a queue that cannot be emptied is tried again.
    pub(crate) async fn purge(&self, queues: &[String]) {
        let mut erased = 0;
        for queue in queues {
            let mut backoff = Backoff::default();
            loop {
                match self.app.broker().purge(queue).await {
                    Ok(messages) => break erased += messages,
                    Err(error) => {
                        let pause = backoff.next();
                        log::error!(queue = queue.as_str(), error:% = error; "Queue {queue} cannot be purged: {error}. Trying again in {:.1} s", pause.as_secs_f64());
                        tokio::select! {
                            () = tokio::time::sleep(pause) => {}
                            () = self.life.stopping.cancelled() => return,
                        }
                    }
                }
            }
        }
        if erased > 0 {
            let messages = if erased == 1 { "message" } else { "messages" };
            log::warn!(erased; "purge: Erased {erased} {messages} from the queue.");
        }
    }

    /// Consumes a queue no longer.
    pub(super) fn cease(&self, queue: &str) {
        let mut names = self.consumer.queues().to_vec();
        names.retain(|name| &**name != queue);
        self.consumer.set_queues(names);
        let mut consumed = lock(&self.consumed);
        consumed.declared.remove(queue);
        consumed.broadcasts.remove(queue).inspect(CancellationToken::cancel);
    }

    /// Takes what is published to a fanout exchange. Nobody keeps these messages: what is published while the worker is
    /// away, or is not yet started when it ends, it does not get, as with kombu's `Broadcast` on Redis.
    async fn listen(self: &Arc<Self>, queue: QueueInfo, stop: CancellationToken) {
        static SERIAL: AtomicU64 = AtomicU64::new(FIRST_SERIAL);
        let topics = [(queue.exchange.name.as_str(), queue.routing_key.as_str())];
        let mut messages = self.app.broker().subscribe(&topics).await;
        let name: Arc<str> = queue.name.as_str().into();
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => return,
                message = messages.next() => message,
            };
            let Some(message) = message else { return };
            while self.vacancy().is_empty() && !stop.is_cancelled() {
                tokio::time::sleep(LOOK_FOR_ROOM).await;
            }
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            self.receive(Delivery {
                serial,
                queue: Arc::clone(&name),
                message: Ok(message.into()),
                was_parked: false,
                taken: std::time::Instant::now(),
            });
        }
    }
}
