//! How the record of a task is written, and what becomes of one that cannot be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::encoding::Encoding;
use super::{ExceptionInfo, TaskMeta, TaskState};
use crate::config::Config;

/// The encoding of records, and the bound of their size.
#[derive(Clone)]
pub(crate) struct Records {
    pub(super) encoding: Encoding,
    /// Most bytes of a record; 0 for no bound.
    limit: Arc<AtomicU64>,
}

impl Records {
    /// Those of the settings.
    pub(super) fn new(config: &Config) -> Self {
        let limit = Arc::new(AtomicU64::new(config.celeriac_max_result_bytes));
        Self { encoding: Encoding::new(config), limit }
    }

    /// Takes note that no more bytes than that are taken.
    pub(super) fn limit_to(&self, bytes: u64) {
        let lower = |limit: u64| Some(if limit == 0 { bytes } else { limit.min(bytes) });
        let _ = self.limit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower);
    }

    /// Returns the bytes of a record.
    ///
    /// # Errors
    /// The exception with which the task fails instead, as in Celery.
    pub(super) fn try_write(&self, meta: &TaskMeta) -> Result<Vec<u8>, ExceptionInfo> {
        let unencodable =
            |text: String| ExceptionInfo::new("kombu.exceptions", "EncodeError", vec![text.into()]);
        let value = self.encoding.encode(meta.encode()).map_err(|error| unencodable(error.to_string()))?;
        let limit = self.limit.load(Ordering::Relaxed);
        if limit > 0 && value.len() as u64 > limit {
            let size = value.len();
            return Err(unencodable(format!(
                "the result has {size} bytes as it is stored, more than the limit of {limit} (celeriac_max_result_bytes, or the server's proto-max-bulk-len)"
            )));
        }
        Ok(value)
    }

    /// Returns the state and the bytes of a record; one that cannot be written becomes a failure.
    pub(super) fn write(&self, meta: &TaskMeta) -> (TaskState, Vec<u8>) {
        let exception = match self.try_write(meta) {
            Ok(value) => return (meta.status.clone(), value),
            Err(exception) => exception,
        };
        let text = exception.repr();
        log::error!(task_id = meta.task_id.as_str(), error = text.as_str(); "The record of {} cannot be stored as it is: {text}", meta.task_id);
        // A failure may be small enough without what it was called with.
        if meta.status == TaskState::Failure {
            let mut lean = meta.clone();
            lean.extended.retain(|name, _| !["args", "kwargs"].contains(&name.as_str()));
            if let Ok(value) = self.try_write(&lean) {
                return (TaskState::Failure, value);
            }
        }
        let failure = TaskMeta::new(meta.task_id.clone(), TaskState::Failure, exception.to_value());
        // Texts have a form everywhere.
        (TaskState::Failure, self.encoding.encode(failure.encode()).unwrap_or_default())
    }
}
