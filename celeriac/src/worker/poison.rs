//! Messages that come back again and again because their worker dies each time.

use redis::{Cmd, Pipeline, cmd};

use super::runtime::Runtime;
use crate::broker::redis::{Start, texts};
use crate::failpoints::fail_point;
use crate::task::Request;

/// How long the starts of a message are remembered, in seconds: a week.
const KEPT: u64 = 7 * 86_400;

impl Runtime {
    /// Notes another start of a late-acked message that came back, and returns all that are known; `None` for a message
    /// that did not come back.
    ///
    /// Only starts count: a message that waited in a worker that died is none the worse for it.
    pub(super) async fn count_start(&self, request: &Request, acknowledged: bool) -> Option<Vec<Start>> {
        if acknowledged || !request.redelivered() || self.config().celeriac_max_deliveries == 0 {
            return None;
        }
        let key = self.starts_key(request);
        let start = serde_json::to_vec(&Start::now(&self.state.hostname)).ok()?;
        let mut note = Pipeline::new();
        note.atomic();
        note.cmd("RPUSH").arg(&key).arg(start).ignore();
        note.cmd("EXPIRE").arg(&key).arg(KEPT).ignore();
        note.cmd("LRANGE").arg(&key).arg(0).arg(-1);
        match self.app.queues().link().call(&mut note).await {
            Ok(replies) => {
                fail_point!("poison.counted");
                let starts = replies.first().map(texts).unwrap_or_default();
                Some(starts.iter().filter_map(|start| serde_json::from_str(start).ok()).collect())
            }
            Err(error) => {
                log::warn!(task_id = request.id.as_str(), error:% = error; "A delivery of {} is not counted: {error}", request.id);
                None
            }
        }
    }

    /// The command that forgets the starts of a message that is done with.
    pub(super) fn forget_starts(&self, request: &Request) -> Cmd {
        let mut forget = cmd("DEL");
        forget.arg(self.starts_key(request));
        forget
    }

    /// Whether a message has been started too often to be run again: the first start is not among those noted.
    pub(super) fn is_poison(&self, starts: &[Start]) -> bool {
        starts.len() >= self.config().celeriac_max_deliveries as usize
    }

    fn starts_key(&self, request: &Request) -> String {
        self.app.queues().keys().deliveries(&request.properties.delivery_tag)
    }
}
