//! One broker, of whichever kind.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "testing")]
use super::memory;
use super::refusals::Refusals;
use super::{
    Answers, Batch, BrokerError, Consumer, ConsumerHandle, ConsumerOptions, DeadLetters, DeadReason,
    Receiver, Start, dead_letters, redis,
};
use crate::backend::Backend;
use crate::clock::Clock;
use crate::config::{Config, Url};
use crate::message::Message;

/// The broker of an application; cheap to clone.
///
/// Nothing is connected before the first call that needs it.
#[derive(Clone)]
pub struct Broker {
    pub(super) kind: Kind,
}

/// The kinds of brokers.
#[derive(Clone)]
pub(super) enum Kind {
    Redis(redis::Queues),
    #[cfg(feature = "testing")]
    Memory(memory::MemoryBroker),
}

impl Broker {
    /// Returns the broker at a URL under those settings.
    ///
    /// # Errors
    /// [`BrokerError::BadUrl`] and [`BrokerError::BadTls`].
    pub(crate) fn open(url: &Url, config: &Config) -> Result<Self, BrokerError> {
        Ok(Self {
            kind: match url.scheme() {
                #[cfg(feature = "testing")]
                "memory" => Kind::Memory(memory::MemoryBroker::new(url, config)),
                _ => Kind::Redis(redis::Queues::open(url, config)?),
            },
        })
    }

    /// The kind, as Celery names it.
    pub fn transport(&self) -> &'static str {
        match &self.kind {
            Kind::Redis(_) => "redis",
            #[cfg(feature = "testing")]
            Kind::Memory(_) => "memory",
        }
    }

    /// Returns the queues at a Redis server, if the broker is one, for what no other broker has.
    pub fn redis(&self) -> Option<&redis::Queues> {
        match &self.kind {
            Kind::Redis(queues) => Some(queues),
            #[cfg(feature = "testing")]
            Kind::Memory(_) => None,
        }
    }

    /// The server in memory, if the broker is one.
    #[cfg(feature = "testing")]
    pub(crate) fn memory(&self) -> Option<&memory::MemoryBroker> {
        match &self.kind {
            Kind::Redis(_) => None,
            Kind::Memory(broker) => Some(broker),
        }
    }

    /// Returns the clock by which everybody goes who uses the broker.
    pub(crate) fn clock(&self) -> Clock {
        match &self.kind {
            Kind::Redis(_) => Clock::default(),
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => broker.server().clock().clone(),
        }
    }

    /// The broker of an application with that result backend.
    pub(crate) fn beside(self, backend: Option<&Backend>) -> Self {
        match self.kind {
            Kind::Redis(queues) => Self {
                kind: Kind::Redis(
                    queues.beside(backend.map(|backend| backend.redis().map(|redis| redis.endpoint()))),
                ),
            },
            #[cfg(feature = "testing")]
            kind @ Kind::Memory(_) => Self { kind },
        }
    }

    /// Whether one step can hold what is written to the broker and to the result backend beside which it is, as far as is
    /// known now: the server may refuse it, and a consumer asks at each connection.
    pub(crate) fn joins(&self, backend: &Backend) -> bool {
        match &self.kind {
            Kind::Redis(queues) => backend.redis().is_some() && queues.results().are_joined(),
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => backend.memory().is_some_and(|backend| broker.joins(backend.server())),
        }
    }

    /// The same, for who has no consumer: the server is asked unless that is known.
    pub(crate) async fn asks_to_join(&self, backend: &Backend) -> bool {
        match &self.kind {
            Kind::Redis(queues) => queues.ask_to_join_results().await,
            #[cfg(feature = "testing")]
            Kind::Memory(_) => {}
        }
        self.joins(backend)
    }

    /// Whether the results are at the same place, so that whatever keeps messages keeps them too.
    pub(crate) fn holds_results(&self, backend: &Backend) -> bool {
        match &self.kind {
            Kind::Redis(queues) => {
                backend.redis().is_some() && matches!(queues.results(), redis::Results::Here)
            }
            #[cfg(feature = "testing")]
            Kind::Memory(_) => self.joins(backend),
        }
    }

    /// Publishes messages, each to where its `delivery_info` says, all or none.
    ///
    /// If it is cancelled, all messages may have been sent all the same, or none.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] and [`BrokerError::Timeout`] (then it is unknown whether they were published), and
    /// [`BrokerError::Refused`].
    pub async fn publish(&self, messages: &[Message]) -> Result<(), BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.publish(messages).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => {
                broker.server().carry_out(&memory::MemoryBroker::publications(messages));
                Ok(())
            }
        }
    }

    /// Returns the writes that publish messages, each to where its `delivery_info` says. Routes are found out here.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`] from reading bindings, and the
    /// last one for a queue whose key holds something else.
    pub(crate) async fn publications(&self, messages: &[Message]) -> Result<Batch, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => {
                let commands = queues.publish_commands(messages).await?;
                queues.check_lists(&commands).await?;
                Ok(commands.into())
            }
            #[cfg(feature = "testing")]
            Kind::Memory(_) => Ok(Batch::Memory(memory::MemoryBroker::publications(messages))),
        }
    }

    /// Carries out writes now, all or none, without a consumer.
    ///
    /// # Errors
    /// [`BrokerError::Connection`] and [`BrokerError::Timeout`] (then it is unknown whether they were carried out), and
    /// [`BrokerError::Refused`].
    pub(crate) async fn carry_out(&self, batch: Batch) -> Result<Answers, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.carry_out(batch.into_commands()).await.map(Answers::from),
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(Answers::Memory(broker.server().carry_out(&batch.into_writes()))),
        }
    }

    /// Returns the writes of `then` in that order, which are carried out only if `guard` allows it at that moment; see
    /// [`Answers::were_allowed`].
    pub(crate) fn guarded<const N: usize>(&self, guard: Batch, then: [Batch; N]) -> Batch {
        match &self.kind {
            Kind::Redis(queues) => redis::guarded_batch(queues.results().selection(), guard, then),
            #[cfg(feature = "testing")]
            Kind::Memory(_) => {
                let then = then.into_iter().fold(Batch::Empty, Batch::and);
                memory::MemoryBroker::guarded(guard, then)
            }
        }
    }

    /// Binds a queue to an exchange for good, as kombu 5.7 does when it declares a queue.
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub async fn bind(
        &self,
        exchange: &str,
        exchange_type: &str,
        routing_key: &str,
        queue: &str,
    ) -> Result<(), BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.bind(exchange, exchange_type, routing_key, queue).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => {
                broker.bind(exchange, exchange_type, routing_key, queue);
                Ok(())
            }
        }
    }

    /// Returns how many messages wait in a queue, over all priorities.
    ///
    /// Cancel safe: it only asks.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub async fn length(&self, queue: &str) -> Result<u64, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.length(queue).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(broker.length(queue)),
        }
    }

    /// Removes all messages that wait in a queue and returns how many there were.
    ///
    /// If it is cancelled, it may take effect all the same.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub async fn purge(&self, queue: &str) -> Result<u64, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.purge(queue).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(broker.purge(queue)),
        }
    }

    /// Returns the place of a priority among those that wait: 0 is served first.
    pub(crate) fn rank(&self, priority: u8) -> u8 {
        match &self.kind {
            Kind::Redis(queues) => queues.keys().step(priority),
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => broker.rank(priority),
        }
    }

    /// Notes that a message which had come back is started once more, and returns all starts that are noted; `None` at a
    /// broker that keeps none.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn count_start(
        &self,
        delivery_tag: &str,
        start: &Start,
    ) -> Result<Option<Vec<Start>>, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.count_start(delivery_tag, start).await.map(Some),
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(broker.count_start(delivery_tag, start)),
        }
    }

    /// Returns the write that forgets the starts of a message that is done with.
    pub(crate) fn forget_starts(&self, delivery_tag: &str) -> Batch {
        match &self.kind {
            Kind::Redis(queues) => queues.forget_starts(delivery_tag).into(),
            #[cfg(feature = "testing")]
            Kind::Memory(_) => memory::MemoryBroker::forget_starts(delivery_tag).into(),
        }
    }

    /// Notes which message brought a run of beat; `false` when it was another one.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`] and [`BrokerError::Refused`].
    pub(crate) async fn claim_run(&self, id: &str, delivery_tag: &str) -> Result<bool, BrokerError> {
        match &self.kind {
            Kind::Redis(queues) => queues.claim_run(id, delivery_tag).await,
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => Ok(broker.claim_run(id, delivery_tag)),
        }
    }

    /// Returns the guard that lets the body of a chord be sent once; `None` at a broker that keeps no such marks.
    pub(crate) fn mark_sent(&self, group_id: &str, delivery_tag: &str) -> Option<Batch> {
        match &self.kind {
            Kind::Redis(queues) => Some(queues.mark_sent(group_id, delivery_tag).into()),
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => broker.mark_sent(group_id, delivery_tag).map(Batch::from),
        }
    }

    /// Returns the write that keeps a message of that queue among the dead letters; empty when they are switched off.
    pub(crate) fn letter(&self, reason: DeadReason, message: &Message, queue: &str, hostname: &str) -> Batch {
        match &self.kind {
            Kind::Redis(queues) => queues.letter(reason, message, queue, hostname).into(),
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => broker.letter(reason, message, queue, hostname).into(),
        }
    }

    /// Returns the messages that workers have given up; `None` where such messages are dropped
    /// (`celeriac_dead_letter_queue`).
    pub fn dead_letters(&self) -> Option<DeadLetters> {
        let kind = match &self.kind {
            Kind::Redis(queues) => {
                let key = queues.dead_letters()?.key.clone();
                dead_letters::Kind::Redis(redis::DeadLetters::new(queues.link().clone(), key))
            }
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => {
                dead_letters::Kind::Memory(broker.keeps_dead_letters().then(|| broker.clone())?)
            }
        };
        Some(DeadLetters(kind))
    }

    /// Returns the receiver that `make` builds, and a consumer that hands messages to it.
    pub(crate) fn consumer<R: Receiver>(
        &self,
        options: ConsumerOptions,
        config: &Config,
        backend: Option<&Backend>,
        make: impl FnOnce(ConsumerHandle) -> Arc<R>,
    ) -> (Arc<R>, Consumer<R>) {
        match &self.kind {
            Kind::Redis(queues) => {
                let result_key = backend
                    .filter(|backend| self.holds_results(backend))
                    .and_then(|backend| Some(backend.redis()?.task_key(&options.hostname)));
                let options = redis::ConsumerOptions::new(options, config, result_key);
                let consumer = redis::Consumer::new(queues, options, make);
                (Arc::clone(consumer.receiver()), Consumer::Redis(Box::new(consumer)))
            }
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => {
                let consumer = memory::Consumer::new(broker, options.queues, options.hostname, make);
                (Arc::clone(consumer.receiver()), Consumer::Memory(consumer))
            }
        }
    }

    /// Brings the messages of dead workers back until `stop`, and counts them; what does not say where it came from goes
    /// to the queue `lost_and_found`.
    pub(crate) async fn restore_abandoned(
        self,
        config: Config,
        lost_and_found: String,
        refusals: Arc<Refusals>,
        restored: IntCounter,
        stop: CancellationToken,
    ) {
        match self.kind {
            Kind::Redis(queues) => {
                let sweeper = redis::Sweeper::of(queues, &config, lost_and_found, refusals);
                sweeper.run(restored, stop).await;
            }
            // What a consumer held comes back when it ends.
            #[cfg(feature = "testing")]
            Kind::Memory(_) => {}
        }
    }

    /// Returns after how long another worker may have taken a message from one that stands still; `None` at a broker that
    /// takes it back by itself.
    pub(crate) fn takeover(&self, config: &Config) -> Option<Duration> {
        match &self.kind {
            Kind::Redis(_) => Some(redis::takeover(config.broker_transport_options.visibility_timeout())),
            #[cfg(feature = "testing")]
            Kind::Memory(_) => None,
        }
    }

    /// Warns when the server is set up so that it may lose messages.
    pub(crate) async fn warn_of_loss(self) {
        match self.kind {
            Kind::Redis(queues) => redis::warn_of_eviction(queues.link().clone()).await,
            #[cfg(feature = "testing")]
            // Nobody expects it to outlive its process.
            Kind::Memory(_) => {}
        }
    }
}

impl fmt::Display for Broker {
    /// Writes the URL without its password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Redis(queues) => queues.link().endpoint().fmt(formatter),
            #[cfg(feature = "testing")]
            Kind::Memory(broker) => broker.server().fmt(formatter),
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Broker({self})")
    }
}
