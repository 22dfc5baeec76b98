//! What an engineer decides: about sendings that may have been delivered, and about jobs that were given up.

use uuid::Uuid;

use super::{Requeued, requeue};
use crate::{
    Companion,
    store::{FailedJob, StoreError},
};

/// What came of a wish to run a failed job again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// Its reminder is queued as the task with this id; the job is closed when that is sent.
    Queued(Uuid),
    /// Nothing is left to do, for this reason, and the job is closed.
    Closed(String),
    /// It stays as it is, for this reason.
    Skipped(String),
}

/// Queues the reminder of a failed job again. Its row is closed when the reminder is sent, or now if that cannot be any more.
///
/// # Errors
/// [`StoreError`] when the database is not available.
pub async fn requeue_failed_job(companion: &Companion, id: Uuid) -> Result<Closed, StoreError> {
    let Some(job) = companion.store.failed_job(id).await? else {
        return Ok(Closed::Skipped("not found".to_owned()));
    };
    if let Some(resolution) = &job.resolution {
        return Ok(Closed::Skipped(format!("already closed: {resolution}")));
    }
    let Some(reminder) = job.reminder() else { return Ok(Closed::Skipped(unknown(&job))) };
    Ok(match requeue(companion, reminder, None).await? {
        Requeued::Queued(task) => Closed::Queued(task),
        Requeued::Skipped(reason) if reason == "being delivered" => Closed::Skipped(reason),
        Requeued::Skipped(reason) => {
            companion.store.close_failed_job(id, &reason).await?;
            Closed::Closed(reason)
        }
    })
}

fn unknown(job: &FailedJob) -> String {
    format!("a job {} without a reminder_id cannot be queued again from here", job.job_name)
}

/// Sends a reminder again that may have been delivered.
///
/// # Errors
/// [`StoreError`] when the database is not available.
pub async fn resend_uncertain(companion: &Companion, reminder: Uuid) -> Result<Requeued, StoreError> {
    requeue(companion, reminder, None).await
}

/// Takes a reminder that may have been delivered for sent. Returns whether there was such a reminder that is not being
/// delivered right now.
///
/// # Errors
/// [`StoreError`] when the database is not available.
pub async fn accept_uncertain(companion: &Companion, reminder: Uuid) -> Result<bool, StoreError> {
    let accepted = companion.store.accept_uncertain(reminder).await?;
    if accepted {
        log::info!(reminder_id:% = reminder; "Reminder {reminder} was taken for delivered");
    }
    Ok(accepted)
}
