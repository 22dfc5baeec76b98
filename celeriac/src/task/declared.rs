//! The options that a task declares, as data.

use serde_json::{Map, Value as Json, json};

use super::{Pool, TaskOptions};

impl TaskOptions {
    /// What the task says about itself, under the names of Celery's task attributes; without what is left to the settings.
    pub(crate) fn declared(&self) -> Map<String, Json> {
        let all = [
            ("max_retries", self.max_retries.into()),
            ("default_retry_delay", self.default_retry_delay.into()),
            ("acks_late", self.acks_late.into()),
            ("acks_on_failure", self.acks_on_failure.into()),
            ("acks_on_timeout", self.acks_on_timeout.into()),
            ("reject_on_worker_lost", self.reject_on_worker_lost.into()),
            ("ignore_result", self.ignore_result.into()),
            ("store_errors_even_if_ignored", self.store_errors_even_if_ignored.into()),
            ("track_started", self.track_started.into()),
            ("time_limit", self.time_limit.into()),
            ("soft_time_limit", self.soft_time_limit.into()),
            ("rate_limit", self.rate_limit.clone().into()),
            ("queue", self.queue.clone().into()),
            ("exchange", self.exchange.clone().into()),
            ("routing_key", self.routing_key.clone().into()),
            ("priority", self.priority.into()),
            ("serializer", self.serializer.clone().into()),
            ("compression", self.compression.clone().into()),
            ("expires", self.expires.into()),
            (
                "pool",
                json!(match self.pool {
                    Pool::Async => "async",
                    Pool::Blocking => "blocking",
                    Pool::Process => "process",
                }),
            ),
        ];
        all.into_iter()
            .filter(|(_, value)| *value != Json::Null)
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}
