//! Carrying out what applying a signature asks for.

use super::{Celery, Error, Result};
use crate::backend::{ChordPart, GroupChange, TaskState};
use crate::broker::{Batch, BrokerError};
use crate::canvas::Effect;
use crate::message::Message;

/// Effects as writes, in the order that loses nothing where they cannot be carried out together.
#[derive(Default)]
pub(crate) struct Steps {
    /// What must be at the result backend before the messages: chords whose size comes after their last part would never
    /// end.
    pub(crate) prepare: Batch,
    /// What is published at the broker.
    pub(crate) publish: Batch,
    /// What is stored at the result backend.
    pub(crate) results: Batch,
    /// The parts of chords that are to be returned after that.
    pub(crate) parts: Vec<ChordPart>,
    /// The ids of tasks that are to be revoked.
    pub(crate) revoked: Vec<String>,
}

impl Celery {
    /// Writes effects down for broker and result backend.
    ///
    /// # Errors
    /// [`Error::Broker`] from reading an exchange's bindings, and [`Error::Backend`] from reading a stored record.
    pub(crate) async fn steps(&self, effects: Vec<Effect>) -> Result<Steps> {
        let backend = self.result_backend();
        let mut steps = Steps::default();
        let mut messages: Vec<Message> = Vec::new();
        for effect in effects {
            match effect {
                Effect::Publish(mut message) => {
                    self.before_publish.iter().for_each(|hook| hook(&mut message));
                    messages.push(*message);
                }
                Effect::TaskSent(fields) => match self.shared.events.message("task-sent", &fields) {
                    Ok(message) => messages.push(message),
                    Err(error) => log::error!(error:% = error; "An event was dropped: {error}"),
                },
                Effect::Revoke(ids) => steps.revoked.extend(ids),
                Effect::ChordPart(part) => steps.parts.push(*part),
                Effect::Store(meta) => {
                    if let Some(backend) = backend {
                        // Who runs a retry at once stores its outcome after this, and must not be overwritten.
                        let announces = meta.status == TaskState::Retry;
                        let step = if announces { &mut steps.prepare } else { &mut steps.results };
                        step.append(backend.storing_carefully(&meta).await?);
                    }
                }
                effect => {
                    let (Some(backend), Some(change)) = (backend, effect.into_change()) else { continue };
                    let prepares = !matches!(change, GroupChange::Failed { .. });
                    let step = if prepares { &mut steps.prepare } else { &mut steps.results };
                    step.append(backend.changing(&change));
                }
            }
        }
        if !messages.is_empty() {
            steps.publish = self.broker().publications(&messages).await?;
        }
        Ok(steps)
    }

    /// Carries out effects that belong to no delivery, and tries again as `task_publish_retry_policy` says, no longer
    /// than `celeriac_publish_timeout` in all.
    ///
    /// A try that broke on the way may have been carried out: what was sent then is there twice, as with kombu.
    ///
    /// # Errors
    /// [`Error::Broker`] and [`Error::Backend`]; [`BrokerError::NotPublished`] when the time is over.
    pub(crate) async fn commit(&self, effects: Vec<Effect>) -> Result<()> {
        let deadline = self.config().celeriac_publish_timeout;
        let mut last = None;
        let trying = self.commit_with_retries(effects, &mut last);
        if deadline.is_zero() {
            return trying.await;
        }
        match tokio::time::timeout(deadline, trying).await {
            Ok(outcome) => outcome,
            Err(_) => Err(BrokerError::NotPublished {
                url: self.broker().to_string(),
                deadline,
                reason: last.map_or_else(String::new, |error: Error| format!(": {error}")),
            }
            .into()),
        }
    }

    async fn commit_with_retries(&self, effects: Vec<Effect>, last: &mut Option<Error>) -> Result<()> {
        let config = self.config();
        let policy = config.task_publish_retry.then_some(&config.task_publish_retry_policy);
        for retry in 0.. {
            let together = self.commits_together();
            let error = match self.commit_once(effects.clone()).await {
                // The server does not allow it in one step any more.
                Err(_) if together && !self.commits_together() => continue,
                Err(error) if error.is_retryable() => error,
                outcome => return outcome,
            };
            let Some(pause) = policy.and_then(|policy| policy.pause(retry)) else { return Err(error) };
            log::warn!(broker:% = self.broker(), error:% = error; "Cannot publish, trying again: {error}");
            *last = Some(error);
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    async fn commit_once(&self, effects: Vec<Effect>) -> Result<()> {
        let Steps { prepare, publish, results, .. } = self.steps(effects).await?;
        let stored = prepare.and(results);
        let together = match self.result_backend() {
            None => true,
            Some(backend) if stored.is_empty() || publish.is_empty() => self.broker().holds_results(backend),
            Some(backend) => self.broker().asks_to_join(backend).await,
        };
        if together {
            self.broker().carry_out(stored.and(publish)).await?;
            return Ok(());
        }
        if let Some(backend) = self.result_backend() {
            backend.carry_out(stored).await?;
        }
        self.broker().carry_out(publish).await?;
        Ok(())
    }
}
