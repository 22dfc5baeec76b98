//! Bringing back what dead workers held, without a worker.

use std::time::Duration;

use super::{Celery, Result};
use crate::broker::Swept;

/// What one sweep without a worker found; see [`Celery::recover`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Recovered {
    /// Messages of dead workers that went back to their queues.
    pub restored: u64,
    /// What could not go back, and why: one sentence for each queue or key.
    pub refused: Vec<String>,
    /// Workers whose lease has not ended. They live, or died less than 40 s ago.
    pub workers: u64,
    /// The time until the last of these leases ends, unless it is renewed.
    pub lease: Option<Duration>,
    /// Messages in `unacked`: held by workers, or put aside until their eta.
    pub unacked: u64,
    /// Chords that only a celeriac worker goes on with: those whose body is about to be sent, or whose size is unknown.
    pub chords: u64,
}

impl Celery {
    /// Makes one sweep without a worker: messages that dead workers held go back to their queues.
    ///
    /// Safe beside running workers of any kind: what a living worker holds is renewed, and stays. Not safe within 40 s
    /// after the broker was away for all of them, when nobody has renewed yet.
    ///
    /// If it is cancelled, some messages may be back already; the others stay where they are.
    ///
    /// # Errors
    /// [`Error::Broker`](super::Error::Broker) and [`Error::Backend`](super::Error::Backend) when the broker or the result
    /// backend cannot be reached or refuses everything for now.
    pub async fn recover(&self) -> Result<Recovered> {
        let Swept { restored, refused, workers, lease, unacked } = self.broker().sweep(self.config()).await?;
        let chords = self.unsent_chords().await?;
        Ok(Recovered { restored, refused, workers, lease, unacked, chords })
    }

    async fn unsent_chords(&self) -> Result<u64> {
        match self.result_backend() {
            Some(backend) => Ok(backend.unsent_chords().await?),
            None => Ok(0),
        }
    }
}
