//! Messages that come back again and again because their worker dies each time.

use super::runtime::Runtime;
use crate::broker::{Batch, Start};
use crate::failpoints::fail_point;
use crate::task::Request;

impl Runtime {
    /// Notes another start of a late-acked message that came back, and returns all that are known; `None` for a message
    /// that did not come back.
    ///
    /// Only starts count: a message that waited in a worker that died is none the worse for it.
    pub(super) async fn count_start(&self, request: &Request, acknowledged: bool) -> Option<Vec<Start>> {
        if acknowledged || !request.redelivered() || self.config().celeriac_max_deliveries == 0 {
            return None;
        }
        let start = Start::now(&self.state.hostname);
        match self.app.broker().count_start(&request.properties.delivery_tag, &start).await {
            Ok(starts) => {
                fail_point!("poison.counted");
                starts
            }
            Err(error) => {
                log::warn!(task_id = request.id.as_str(), error:% = error; "A delivery of {} is not counted: {error}", request.id);
                None
            }
        }
    }

    /// Returns the write that forgets the starts of a message that is done with.
    pub(super) fn forget_starts(&self, request: &Request) -> Batch {
        self.app.broker().forget_starts(&request.properties.delivery_tag)
    }

    /// Whether a message has been started too often to be run again: the first start is not among those noted.
    pub(super) fn is_poison(&self, starts: &[Start]) -> bool {
        starts.len() >= self.config().celeriac_max_deliveries as usize
    }
}
