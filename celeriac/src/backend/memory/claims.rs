//! Questions about chords: parts that returned, claims, chords that are overdue.

use super::{MemoryBackend, PUT_OFF_SECONDS};
use crate::backend::{BackendError, Reclaimed, Returned, TaskState};
use crate::message::Value;

impl MemoryBackend {
    /// Returns the parts of a chord that have returned, in the order of its header.
    ///
    /// # Errors
    /// A part cannot be read.
    pub(crate) async fn returned_parts(&self, group_id: &str) -> Result<Vec<Returned>, BackendError> {
        let parts = self.read(|now, results| results.chords.parts(now, group_id));
        let mut returned = Vec::with_capacity(parts.len());
        for part in parts {
            let part = self.records.encoding.decode(&part).map_err(BackendError::unreadable(group_id))?;
            let Value::List(fields) = part else { continue };
            let Ok([_, task_id, state, result]) = <[Value; 4]>::try_from(fields) else { continue };
            let state = state.as_str().map_or(TaskState::Pending, TaskState::from_name);
            returned.push(Returned {
                task_id: task_id.as_str().unwrap_or_default().to_owned(),
                state,
                result,
            });
        }
        Ok(returned)
    }

    /// Keeps a claim for longer; `false` when another worker has it now.
    pub(crate) async fn extend_claim(&self, group_id: &str, token: &str) -> Result<bool, BackendError> {
        Ok(self.change(|now, results| results.chords.extend(now, group_id, token, self.times)))
    }

    /// Returns the registered chords whose claim has ended, or of whose size nothing was heard.
    pub(crate) async fn overdue_chords(&self) -> Result<Vec<String>, BackendError> {
        Ok(self.read(|now, results| results.chords.overdue(now)))
    }

    /// Lets a registered chord be overdue only later.
    pub(crate) async fn put_off_chord(&self, group_id: &str) -> Result<(), BackendError> {
        self.change(|now, results| results.chords.put_off(now, group_id, PUT_OFF_SECONDS));
        Ok(())
    }

    /// Claims an overdue chord and returns what is known of it.
    pub(crate) async fn reclaim_chord(
        &self,
        group_id: &str,
        token: &str,
    ) -> Result<Option<Reclaimed>, BackendError> {
        let reclaimed = self.change(|now, results| results.chords.reclaim(now, group_id, token, self.times));
        Ok(reclaimed.map(|(completing, is_gone)| Reclaimed { completing, is_gone }))
    }

    /// Keeps the counters of these chords from expiring.
    pub(crate) async fn renew_chords(&self, group_ids: &[String]) -> Result<(), BackendError> {
        self.change(|now, results| {
            for group_id in group_ids {
                results.chords.renew(now, group_id, self.times);
            }
        });
        Ok(())
    }

    /// Returns how many chords are registered: only a worker goes on with them.
    pub(crate) async fn unsent_chords(&self) -> Result<u64, BackendError> {
        Ok(self.read(|_, results| results.unsent_chords()))
    }
}
