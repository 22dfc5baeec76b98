//! Messages that come back again and again because their worker dies each time.

use std::sync::Arc;

use redis::{Pipeline, Value as Reply, cmd};

use super::runtime::Runtime;
use crate::task::Request;

/// How long the count of a message is kept, in seconds: a week.
const KEPT: u64 = 7 * 86_400;

/// How often a message that came back was delivered.
pub(super) struct Deliveries {
    pub(super) count: u32,
    key: String,
}

impl Runtime {
    /// Counts another start of a late-acked message that came back; `None` for one that did not.
    ///
    /// Only starts count: a message that waited in a worker that died is none the worse for it.
    pub(super) async fn count_deliveries(&self, request: &Request, acknowledged: bool) -> Option<Deliveries> {
        if acknowledged || !request.redelivered() || self.config().celeriac_max_deliveries == 0 {
            return None;
        }
        let key = self.app.queues().keys().deliveries(&request.properties.delivery_tag);
        let mut count = Pipeline::new();
        count.atomic();
        count.cmd("INCR").arg(&key);
        count.cmd("EXPIRE").arg(&key).arg(KEPT).ignore();
        match self.app.queues().link().call(&mut count).await {
            Ok(replies) => {
                let earlier = match replies.first() {
                    Some(Reply::Int(count)) => u32::try_from(*count).unwrap_or(0),
                    _ => 0,
                };
                Some(Deliveries { count: earlier + 1, key })
            }
            Err(error) => {
                log::warn!(task_id = request.id.as_str(), error:% = error; "A delivery of {} is not counted: {error}", request.id);
                None
            }
        }
    }

    /// Forgets the count of a message that is done with.
    pub(super) fn forget_deliveries(self: &Arc<Self>, deliveries: &Deliveries) {
        let mut forget = cmd("DEL");
        forget.arg(&deliveries.key);
        self.commit_alone(vec![forget]);
    }

    /// Whether a message has been delivered too often to be run again.
    pub(super) fn is_poison(&self, deliveries: &Deliveries) -> bool {
        deliveries.count > self.config().celeriac_max_deliveries
    }
}
