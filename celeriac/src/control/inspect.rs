//! Questions to workers, with typed answers.

use std::time::Duration;

use indexmap::IndexMap;
use serde::de::DeserializeOwned;

use super::client::{Broadcast, Control, ControlReply, Replies};
use super::info::{QueueInfo, ScheduledTask, StoredTask, TaskInfo, WorkerStats};
use super::matcher::Matcher;
use crate::broker::BrokerError;
use crate::message::{Map, Value, from_value};
use crate::schema::Schemas;

/// The answers of workers by node name: of the type that was asked for, or the text of an error.
pub type Answers<T> = IndexMap<String, Result<T, String>>;

/// Questions to workers; without further words to all of them, with one second to answer.
#[derive(Clone, Debug)]
#[must_use = "nothing is asked until one of the questions is called"]
pub struct Inspect {
    control: Control,
    broadcast: Broadcast,
}

impl Inspect {
    pub(super) fn new(control: Control, broadcast: Broadcast) -> Self {
        Self { control, broadcast }
    }

    /// Asks the workers of these node names only.
    pub fn destination(mut self, nodes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.broadcast = self.broadcast.destination(nodes);
        self
    }

    /// Asks the workers whose node names match only.
    pub fn pattern(mut self, pattern: impl Into<String>, matcher: Matcher) -> Self {
        self.broadcast = self.broadcast.pattern(pattern, matcher);
        self
    }

    /// Sets how long answers are waited for at most.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.broadcast = self.broadcast.timeout(timeout);
        self
    }

    /// Sets how many answers are enough.
    pub fn limit(mut self, answers: usize) -> Self {
        self.broadcast = self.broadcast.limit(answers);
        self
    }

    /// The node names of the workers that answer a ping.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn ping(&self) -> Result<Vec<String>, BrokerError> {
        let replies = self.request("ping", Map::new()).await?;
        let is_pong = |reply: &ControlReply| reply.ok().and_then(Value::as_str) == Some("pong");
        Ok(replies.into_iter().filter(|(_, reply)| is_pong(reply)).map(|(node, _)| node).collect())
    }

    /// The tasks that run.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn active(&self) -> Result<Answers<Vec<TaskInfo>>, BrokerError> {
        self.ask("active", Map::new()).await
    }

    /// The tasks that wait for a slot.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn reserved(&self) -> Result<Answers<Vec<TaskInfo>>, BrokerError> {
        self.ask("reserved", Map::new()).await
    }

    /// The tasks that wait for their eta.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn scheduled(&self) -> Result<Answers<Vec<ScheduledTask>>, BrokerError> {
        self.ask("scheduled", Map::new()).await
    }

    /// The ids that are revoked.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn revoked(&self) -> Result<Answers<Vec<String>>, BrokerError> {
        self.ask("revoked", Map::new()).await
    }

    /// The names of the registered tasks, each with the attributes that are asked for: `name [rate_limit=1/s]`.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn registered(&self, attributes: &[&str]) -> Result<Answers<Vec<String>>, BrokerError> {
        let attributes: Vec<Value> = attributes.iter().map(|attribute| Value::from(*attribute)).collect();
        self.ask("registered", Map::from([("taskinfoitems".to_owned(), attributes.into())])).await
    }

    /// What the registered tasks take and return. Only celeriac's workers tell.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn schema(&self) -> Result<Answers<Schemas>, BrokerError> {
        self.ask("schema", Map::new()).await
    }

    /// How the workers are doing.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn stats(&self) -> Result<Answers<WorkerStats>, BrokerError> {
        self.ask("stats", Map::new()).await
    }

    /// The queues that are consumed.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn active_queues(&self) -> Result<Answers<Vec<QueueInfo>>, BrokerError> {
        self.ask("active_queues", Map::new()).await
    }

    /// The settings that differ from their defaults, or all; secrets are masked.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn conf(&self, with_defaults: bool) -> Result<Answers<Map>, BrokerError> {
        self.ask("conf", Map::from([("with_defaults".to_owned(), with_defaults.into())])).await
    }

    /// What the workers know of tasks, by task id.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn query_task(
        &self,
        ids: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Answers<IndexMap<String, StoredTask>>, BrokerError> {
        let ids: Vec<Value> = ids.into_iter().map(|id| Value::Str(id.into())).collect();
        self.ask("query_task", Map::from([("ids".to_owned(), ids.into())])).await
    }

    /// The workers' logical clocks.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn clock(&self) -> Result<Answers<u64>, BrokerError> {
        let replies = self.request("clock", Map::new()).await?;
        let clock = |reply: ControlReply| reply.value.get("clock").cloned().unwrap_or(reply.value);
        Ok(replies.into_iter().map(|(node, reply)| (node, typed(clock(reply)))).collect())
    }

    /// A page about each worker for bug reports.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn report(&self) -> Result<Answers<String>, BrokerError> {
        let replies = self.request("report", Map::new()).await?;
        let page = |reply: ControlReply| reply.ok().cloned().unwrap_or(reply.value);
        Ok(replies.into_iter().map(|(node, reply)| (node, typed(page(reply)))).collect())
    }

    /// The memory that the workers use now, such as `61.6MB`; none where it is not known. `memdump` tells of all samples.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn memsample(&self) -> Result<Answers<Option<String>>, BrokerError> {
        self.ask("memsample", Map::new()).await
    }

    /// The samples that `memsample` took since this was asked last, at most so many of them, and the memory now.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn memdump(&self, samples: usize) -> Result<Answers<String>, BrokerError> {
        self.ask("memdump", Map::from([("samples".to_owned(), samples.into())])).await
    }

    /// Draws a graph of objects of a Python class in the workers, and returns the name of its file there. Only Celery's
    /// workers can, and only with the package `objgraph`; others answer an error.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn objgraph(
        &self,
        class: &str,
        objects: usize,
        max_depth: usize,
    ) -> Result<Answers<String>, BrokerError> {
        let arguments = Map::from([
            ("type".to_owned(), class.into()),
            ("num".to_owned(), objects.into()),
            ("max_depth".to_owned(), max_depth.into()),
        ]);
        let replies = self.request("objgraph", arguments).await?;
        let answer = |reply: ControlReply| match (reply.error(), reply.value.get("filename")) {
            (Some(error), _) => Err(error.to_owned()),
            (None, file) => typed(file.cloned().unwrap_or(Value::Null)),
        };
        Ok(replies.into_iter().map(|(node, reply)| (node, answer(reply))).collect())
    }

    /// Any question.
    ///
    /// Cancel safe: it only asks, and removes its reply queue all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn request(&self, command: &str, arguments: Map) -> Result<Replies, BrokerError> {
        let broadcast = Broadcast { command: command.to_owned(), arguments, ..self.broadcast.clone() };
        self.control.call(broadcast).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        command: &str,
        arguments: Map,
    ) -> Result<Answers<T>, BrokerError> {
        let replies = self.request(command, arguments).await?;
        let answer = |reply: ControlReply| match reply.error() {
            Some(error) => Err(error.to_owned()),
            None => typed(reply.value),
        };
        Ok(replies.into_iter().map(|(node, reply)| (node, answer(reply))).collect())
    }
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    from_value(value).map_err(|error| format!("unexpected answer: {error}"))
}
