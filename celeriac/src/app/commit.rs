//! Carrying out what applying a signature asks for.

use redis::{Cmd, Pipeline};

use super::Celery;
use crate::backend::redis::RedisBackend;
use crate::backend::{ChordPart, TaskState};
use crate::broker::BrokerError;
use crate::canvas::Effect;
use crate::message::Message;

/// Effects as commands: of the result backend, of the broker, and the chord parts to be counted after both.
#[derive(Default)]
pub(crate) struct Lowered {
    /// What must be there before the messages: chords whose size comes after their last part would never end.
    pub(crate) prepare: Vec<Cmd>,
    pub(crate) publish: Vec<Cmd>,
    pub(crate) results: Vec<Cmd>,
    pub(crate) parts: Vec<ChordPart>,
    pub(crate) revoked: Vec<String>,
}

impl Celery {
    /// Turns effects into commands.
    ///
    /// # Errors
    /// Those of reading an exchange's bindings.
    pub(crate) async fn lower(&self, effects: Vec<Effect>) -> Result<Lowered, BrokerError> {
        let backend = self.redis_backend();
        let mut lowered = Lowered::default();
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
                Effect::Revoke(ids) => lowered.revoked.extend(ids),
                Effect::ChordPart(part) => lowered.parts.push(*part),
                Effect::Store(meta) => {
                    if let Some(backend) = backend {
                        // Who runs a retry at once stores its outcome after this, and must not be overwritten.
                        let announces = meta.status == TaskState::Retry;
                        let commands = if announces { &mut lowered.prepare } else { &mut lowered.results };
                        commands.extend(backend.careful_store_commands(&meta).await?);
                    }
                }
                effect => {
                    let Some(backend) = backend else { continue };
                    let prepares = !matches!(effect, Effect::ChordFailed { .. });
                    let commands = if prepares { &mut lowered.prepare } else { &mut lowered.results };
                    commands.extend(result_commands(backend, effect));
                }
            }
        }
        lowered.publish = self.queues().publish_commands(&messages).await?;
        Ok(lowered)
    }

    /// Carries out effects that belong to no delivery, and tries again as `task_publish_retry_policy` says, no longer
    /// than `celeriac_publish_timeout` in all.
    ///
    /// A try that broke on the way may have been carried out: what was sent then is there twice, as with kombu.
    ///
    /// # Errors
    /// Those of the broker and of the result backend, and [`BrokerError::NotPublished`] when the time is over.
    pub(crate) async fn commit(&self, effects: Vec<Effect>) -> Result<(), BrokerError> {
        let deadline = self.config().celeriac_publish_timeout;
        let mut last = None;
        let trying = self.commit_with_retries(effects, &mut last);
        if deadline.is_zero() {
            return trying.await;
        }
        match tokio::time::timeout(deadline, trying).await {
            Ok(outcome) => outcome,
            Err(_) => Err(BrokerError::NotPublished {
                url: self.queues().link().endpoint().to_string(),
                deadline,
                reason: last.map_or_else(String::new, |error: BrokerError| format!(": {error}")),
            }),
        }
    }

    async fn commit_with_retries(
        &self,
        effects: Vec<Effect>,
        last: &mut Option<BrokerError>,
    ) -> Result<(), BrokerError> {
        let config = self.config();
        let policy = config.task_publish_retry.then_some(&config.task_publish_retry_policy);
        for retry in 0.. {
            let error = match self.commit_once(effects.clone()).await {
                Err(error) if error.is_retryable() => error,
                outcome => return outcome,
            };
            let Some(pause) = policy.and_then(|policy| policy.pause(retry)) else { return Err(error) };
            log::warn!(broker:% = self.queues().link().endpoint(), error:% = error; "Cannot publish, trying again: {error}");
            *last = Some(error);
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    async fn commit_once(&self, effects: Vec<Effect>) -> Result<(), BrokerError> {
        let Lowered { prepare, publish, results, .. } = self.lower(effects).await?;
        let mut results = [prepare, results].concat();
        let publish = if self.is_one_database() {
            results.extend(publish);
            results
        } else {
            if let Some(backend) = self.redis_backend() {
                backend.run(results).await?;
            }
            publish
        };
        let mut commands = Pipeline::new();
        if publish.len() > 1 {
            commands.atomic();
        }
        for command in publish {
            commands.add_command(command);
        }
        if !commands.is_empty() {
            self.queues().link().call(&mut commands).await?;
        }
        Ok(())
    }
}

fn result_commands(backend: &RedisBackend, effect: Effect) -> Vec<Cmd> {
    match effect {
        Effect::ChordSize { group_id, size } => vec![backend.chord_size_command(&group_id, size as u64)],
        Effect::ChordGrow { group_id, by } => vec![backend.chord_grow_command(&group_id, by as i64)],
        Effect::ChordFailed { group_id } => vec![backend.chord_fail_command(&group_id)],
        Effect::SaveGroup(group) => backend.save_group_commands(&group),
        _ => Vec::new(),
    }
}
