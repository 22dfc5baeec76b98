use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

/// A message that a relay has taken in order to publish it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The task id, and the key of the row.
    pub id: Uuid,
    /// Celery's object of the call: `task`, `args`, `kwargs`, `options`.
    pub signature: Value,
    /// The time at which it was to be published.
    pub publish_at: DateTime<Utc>,
}
