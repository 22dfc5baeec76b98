use std::time::Duration;

use uuid::Uuid;

use crate::publish::{BrokerState, Publish, PublishError};
use crate::{Outgoing, Pool};

/// Publishes the messages of an outbox. Any number of relays may run on one database.
pub struct Relay<P> {
    pool: Pool,
    publisher: P,
    batch: usize,
    most_waiting: u64,
    republish_after: Duration,
    /// Messages that the broker took while the database could not be told.
    unrecorded: Vec<Uuid>,
    trouble: Option<Trouble>,
}

/// An error that goes on; it is logged when it begins and when it ends.
struct Trouble {
    what: &'static str,
    failures: u32,
}

/// How often the table is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How often the broker is looked at that has no room for more.
const POLL_FULL: Duration = Duration::from_millis(50);
/// The longest pause while the database or the broker is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a batch is a relay's own. Whoever adds messages relies on less than a minute.
const LEASE: Duration = Duration::from_secs(20);
/// How long the broker may take, well within the lease.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(8);
/// When a message that cannot be published is looked at again.
const REFUSED_AGAIN: Duration = Duration::from_secs(3600);

/// What a turn of the relay did.
enum Turn {
    Published,
    Nothing,
    Full,
}

/// A reason for which a relay could not publish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The broker failed.
    #[error(transparent)]
    Broker(#[from] PublishError),
}

impl<P: Publish> Relay<P> {
    /// A relay that publishes up to 50 messages at a time, lets up to 2,000 wait at the broker, and publishes again what is
    /// not settled 10 minutes after its eta.
    pub fn new(pool: Pool, publisher: P) -> Self {
        Self {
            pool,
            publisher,
            batch: 50,
            most_waiting: 2000,
            republish_after: Duration::from_secs(600),
            unrecorded: Vec::new(),
            trouble: None,
        }
    }

    /// Sets how many messages are published together, at least one. A relay that is killed publishes at most so many twice.
    #[must_use]
    pub fn batch(mut self, messages: usize) -> Self {
        self.batch = messages.max(1);
        self
    }

    /// Sets how many messages may wait at the broker; the rest stays in the database until workers have made room.
    #[must_use]
    pub fn most_waiting(mut self, messages: u64) -> Self {
        self.most_waiting = messages;
        self
    }

    /// Sets after how long a message with a key that was published and is not settled is published again.
    #[must_use]
    pub fn republish_after(mut self, after: Duration) -> Self {
        self.republish_after = after;
        self
    }

    /// Publishes until `stop` is ready; a batch under way is finished. Failures of database and broker are logged, and
    /// waited out.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = match self.turn().await {
                Ok(turn) => {
                    self.well();
                    match turn {
                        Turn::Published => Duration::ZERO,
                        Turn::Nothing => POLL,
                        Turn::Full => POLL_FULL,
                    }
                }
                Err(failure) => {
                    self.failed(&failure);
                    (pause * 2).clamp(POLL, LONGEST_PAUSE)
                }
            };
        }
    }

    /// Publishes one batch of what is to be published by now, for a caller that does not want to wait for a running relay.
    ///
    /// # Errors
    /// [`RelayError`]; what was not published stays in the outbox.
    pub async fn publish_once(&mut self) -> Result<(), RelayError> {
        self.turn().await.map(drop)
    }

    async fn turn(&mut self) -> Result<Turn, RelayError> {
        self.record_published().await?;
        let BrokerState { waiting, is_marked } = self.publisher.look().await?;
        // One of the relays that see this publishes again. The others publish nothing before it has begun: it would publish
        // that a second time.
        if !is_marked {
            if !self.publisher.claim_mark().await? {
                return Ok(Turn::Nothing);
            }
            let count = self.pool.republish_all().await?;
            if count > 0 {
                log::warn!(count; "The broker has lost its data; {count} message(s) are published again");
            }
            self.publisher.mark().await?;
        }
        let room = usize::try_from(self.most_waiting.saturating_sub(waiting)).unwrap_or(usize::MAX);
        if room == 0 {
            return Ok(Turn::Full);
        }
        let taken = self.pool.take(room.min(self.batch) as i64, LEASE).await?;
        if taken.is_empty() {
            return Ok(Turn::Nothing);
        }
        self.publish(&taken).await?;
        self.record_published().await?;
        Ok(Turn::Published)
    }

    async fn publish(&mut self, taken: &[Outgoing]) -> Result<(), RelayError> {
        match self.publish_in_time(taken).await {
            Ok(()) => self.unrecorded.extend(taken.iter().map(|message| message.id)),
            Err(PublishError::Refused(reason)) if taken.len() == 1 => {
                self.set_aside(&taken[0], &reason).await?
            }
            Err(PublishError::Refused(_)) => {
                for message in taken {
                    Box::pin(self.publish(std::slice::from_ref(message))).await?;
                }
            }
            Err(error) => {
                let ids: Vec<Uuid> = taken.iter().map(|message| message.id).collect();
                // If the database does not hear it, the lease ends by itself.
                let _ = self.pool.give_back(&ids, Duration::ZERO).await;
                return Err(error.into());
            }
        }
        Ok(())
    }

    async fn publish_in_time(&self, taken: &[Outgoing]) -> Result<(), PublishError> {
        match tokio::time::timeout(PUBLISH_TIMEOUT, self.publisher.publish(taken)).await {
            Ok(result) => result,
            Err(_) => Err(PublishError::Unavailable(format!("no answer within {PUBLISH_TIMEOUT:?}"))),
        }
    }

    /// A message that cannot be published must not hold up the others.
    async fn set_aside(&self, message: &Outgoing, reason: &str) -> Result<(), RelayError> {
        let task = message.signature["task"].as_str().unwrap_or("?");
        log::error!(task_id:% = message.id, task, error = reason;
            "Message {} of task {task} cannot be published and waits for an hour: {reason}", message.id);
        Ok(self.pool.give_back(&[message.id], REFUSED_AGAIN).await?)
    }

    /// Tells the database what the broker has taken; until it knows, nothing else is published.
    async fn record_published(&mut self) -> Result<(), RelayError> {
        if !self.unrecorded.is_empty() {
            self.pool.published(&self.unrecorded, self.republish_after).await?;
            self.unrecorded.clear();
        }
        Ok(())
    }

    fn failed(&mut self, failure: &RelayError) {
        let (what, error) = match failure {
            RelayError::Database(error) => ("database", error.to_string()),
            RelayError::Broker(error) => ("broker", error.to_string()),
        };
        match &mut self.trouble {
            Some(trouble) if trouble.what == what => trouble.failures += 1,
            trouble => {
                *trouble = Some(Trouble { what, failures: 1 });
                log::warn!(error = error.as_str(); "The outbox waits for the {what}: {error}");
            }
        }
    }

    fn well(&mut self) {
        if let Some(Trouble { what, failures }) = self.trouble.take() {
            log::info!(failures; "The outbox goes on, the {what} answers again");
        }
    }
}
