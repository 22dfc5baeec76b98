//! Publications that a program commits together with writes of its own.

use super::{Celery, Result};
use crate::canvas::{self, Outbox};
use crate::message::{Map, Signature};

impl Celery {
    /// Makes the Redis commands that would send a task to the broker, each as its arguments, and publishes nothing: for a
    /// program that keeps its own records in the broker's database and writes them in the same transaction.
    ///
    /// Cancel safe: it publishes nothing.
    ///
    /// # Errors
    /// [`Error::Canvas`](super::Error::Canvas) when the task cannot be applied, and
    /// [`Error::Broker`](super::Error::Broker) when the bindings of an exchange cannot be read, or a queue's key holds
    /// something else.
    pub async fn prepare(&self, signature: impl Into<Signature>) -> Result<Vec<Vec<Vec<u8>>>> {
        let mut outbox = Outbox::new();
        self.with_sender(None, |sender| {
            canvas::apply(signature.into(), Vec::new(), Map::new(), Map::new(), sender, &mut outbox)
        })?;
        let steps = self.steps(outbox.effects).await?;
        // What the messages rely on, such as the size of a chord, means nothing before they are sent.
        let stored = steps.prepare.and(steps.results);
        if let Some(backend) = self.result_backend().filter(|_| !stored.is_empty()) {
            backend.carry_out(stored).await?;
        }
        Ok(steps.publish.into_arguments())
    }
}
