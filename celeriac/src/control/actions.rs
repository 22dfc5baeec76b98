//! What workers can be told, with typed answers.

use super::client::{Broadcast, Control};
use super::inspect::Answers;
use crate::broker::BrokerError;
use crate::message::{Map, Signature, Value};

/// Commands. Those that give [`Answers`] wait for them: the text with which a worker agrees, or that of its refusal.
impl Control {
    /// Keeps tasks from running on any worker, also on workers in Rust that are started later.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn revoke(&self, ids: impl IntoIterator<Item = impl Into<String>>) -> Result<(), BrokerError> {
        self.revoke_as(ids, |revoke| revoke.argument("terminate", false)).await
    }

    /// Keeps tasks from running, and ends those that run with a signal such as `SIGTERM`.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn terminate(
        &self,
        ids: impl IntoIterator<Item = impl Into<String>>,
        signal: &str,
    ) -> Result<(), BrokerError> {
        self.revoke_as(ids, |revoke| revoke.argument("terminate", true).argument("signal", signal)).await
    }

    /// Keeps tasks with one of these values of a stamp from running, and ends those that run if a signal is given.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn revoke_by_stamped_headers(
        &self,
        headers: Map,
        signal: Option<&str>,
    ) -> Result<Answers<String>, BrokerError> {
        let revoke = self.broadcast("revoke_by_stamped_headers").argument("headers", headers);
        self.tell(revoke.argument("terminate", signal.is_some()).argument("signal", signal)).await
    }

    /// Asks for a warm shutdown; nobody answers.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn shutdown(&self) -> Result<(), BrokerError> {
        self.cast(&self.broadcast("shutdown")).await.map(drop)
    }

    /// Sets how often a task may start on each worker (`10/m`; `0` for no limit).
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn rate_limit(&self, task: &str, limit: &str) -> Result<Answers<String>, BrokerError> {
        let command = self.broadcast("rate_limit").argument("task_name", task);
        self.tell(command.argument("rate_limit", limit)).await
    }

    /// Sets how many seconds a task may run.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn time_limit(
        &self,
        task: &str,
        soft: Option<f64>,
        hard: Option<f64>,
    ) -> Result<Answers<String>, BrokerError> {
        let command = self.broadcast("time_limit").argument("task_name", task);
        self.tell(command.argument("hard", hard).argument("soft", soft)).await
    }

    /// Makes workers consume a queue.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn add_consumer(&self, queue: &str) -> Result<Answers<String>, BrokerError> {
        self.tell(self.broadcast("add_consumer").argument("queue", queue)).await
    }

    /// Makes workers stop consuming a queue.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn cancel_consumer(&self, queue: &str) -> Result<Answers<String>, BrokerError> {
        self.tell(self.broadcast("cancel_consumer").argument("queue", queue)).await
    }

    /// Lets workers run so many tasks more at a time.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn pool_grow(&self, slots: usize) -> Result<Answers<String>, BrokerError> {
        self.tell(self.broadcast("pool_grow").argument("n", slots)).await
    }

    /// Lets workers run so many tasks fewer at a time.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn pool_shrink(&self, slots: usize) -> Result<Answers<String>, BrokerError> {
        self.tell(self.broadcast("pool_shrink").argument("n", slots)).await
    }

    /// Replaces the processes that run tasks; needs `worker_pool_restarts`.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn pool_restart(&self) -> Result<Answers<String>, BrokerError> {
        self.tell(self.broadcast("pool_restart")).await
    }

    /// Sets the bounds between which a worker that scales keeps the number of its slots.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn autoscale(&self, max: usize, min: usize) -> Result<Answers<String>, BrokerError> {
        self.tell(self.broadcast("autoscale").argument("max", max).argument("min", min)).await
    }

    /// Switches events of tasks on.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn enable_events(&self) -> Result<Answers<String>, BrokerError> {
        self.tell(self.broadcast("enable_events")).await
    }

    /// Switches events of tasks off.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn disable_events(&self) -> Result<Answers<String>, BrokerError> {
        self.tell(self.broadcast("disable_events")).await
    }

    /// Asks for a heartbeat at once; nobody answers.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn heartbeat(&self) -> Result<(), BrokerError> {
        self.cast(&self.broadcast("heartbeat")).await.map(drop)
    }

    /// Lets the workers that gossip elect one of them, who calls the task; nobody answers.
    ///
    /// Not for a fleet of one Python worker: Celery 5.7's worker ends when it stands alone for election.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn election(&self, id: &str, task: &Signature) -> Result<(), BrokerError> {
        let election = self.broadcast("election").argument("id", id).argument("topic", "task");
        self.cast(&election.argument("action", task.to_value())).await.map(drop)
    }

    /// Any command, with the answers as texts.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn tell(&self, broadcast: Broadcast) -> Result<Answers<String>, BrokerError> {
        let replies = self.call(broadcast).await?;
        Ok(replies.into_iter().map(|(node, reply)| (node, reply.into_text())).collect())
    }

    async fn revoke_as(
        &self,
        ids: impl IntoIterator<Item = impl Into<String>>,
        how: impl FnOnce(Broadcast) -> Broadcast,
    ) -> Result<(), BrokerError> {
        let ids: Vec<String> = ids.into_iter().map(Into::into).collect();
        let values: Vec<Value> = ids.iter().map(|id| id.as_str().into()).collect();
        let command = how(self.broadcast("revoke").argument("task_id", values));
        self.cast_revocation(&command, &ids).await
    }
}
