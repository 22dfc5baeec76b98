//! The side that asks: broadcasting commands and collecting the answers.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indexmap::IndexMap;
use tokio::time::Instant;

use super::inspect::Inspect;
use super::mailbox::{ReplyTo, Request};
use super::matcher::Matcher;
use super::{python, revocations};
use crate::broker::{Broker, BrokerError, ReplyAddress, ReplyQueue, ReplyQueues};
use crate::config::Config;
use crate::events::LogicalClock;
use crate::message::{Accept, Codec, Codecs, Map, Message, Value};

/// The answers of workers by node name, in the order in which they came.
pub type Replies = IndexMap<String, ControlReply>;

/// The answer of one worker.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlReply {
    /// What it answered: `{"ok": ...}`, `{"error": ...}`, or whatever the command gives.
    pub value: Value,
}

impl ControlReply {
    /// What stands under `ok`.
    pub fn ok(&self) -> Option<&Value> {
        self.value.get("ok")
    }

    /// The text with which the worker agreed, or that of its refusal.
    ///
    /// # Errors
    /// The refusal.
    pub fn into_text(self) -> Result<String, String> {
        match self.error() {
            Some(refusal) => Err(refusal.to_owned()),
            None => Ok(python::str(self.ok().unwrap_or(&self.value))),
        }
    }

    /// The text under `error`.
    pub fn error(&self) -> Option<&str> {
        self.value.as_map().filter(|entries| entries.len() == 1)?.get("error")?.as_str()
    }
}

/// A command to be broadcast: to whom, with what, and how long answers are waited for.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a broadcast does nothing until it is sent"]
pub struct Broadcast {
    pub(super) command: String,
    pub(super) arguments: Map,
    pub(super) destination: Vec<String>,
    pub(super) pattern: Option<(String, Matcher)>,
    pub(super) timeout: Duration,
    pub(super) limit: Option<usize>,
}

impl Broadcast {
    /// A command for all workers, without arguments; answers are waited for one second.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            arguments: Map::new(),
            destination: Vec::new(),
            pattern: None,
            timeout: Duration::from_secs(1),
            limit: None,
        }
    }

    /// Sets the arguments.
    pub fn arguments(mut self, arguments: Map) -> Self {
        self.arguments = arguments;
        self
    }

    /// Adds an argument.
    pub fn argument(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(name.to_owned(), value.into());
        self
    }

    /// Sends it to the workers of these node names only.
    pub fn destination(mut self, nodes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.destination = nodes.into_iter().map(Into::into).collect();
        self
    }

    /// Sends it to the workers whose node names match only.
    pub fn pattern(mut self, pattern: impl Into<String>, matcher: Matcher) -> Self {
        self.pattern = Some((pattern.into(), matcher));
        self
    }

    /// Sets how long answers are waited for at most.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many answers are enough; by default as many as there are destinations, or workers that listen.
    pub fn limit(mut self, answers: usize) -> Self {
        self.limit = Some(answers);
        self
    }

    fn request(&self, reply_to: Option<ReplyTo>) -> Request {
        Request {
            method: self.command.clone(),
            arguments: self.arguments.clone().into(),
            destination: self.destination.clone(),
            pattern: self.pattern.as_ref().map(|(pattern, _)| pattern.clone()),
            matcher: self.pattern.as_ref().map(|(_, matcher)| matcher.as_str().to_owned()),
            reply_to,
        }
    }
}

/// Remote control of the workers at a broker: of all of them, with one second to answer, unless it is narrowed; cheap to
/// clone.
///
/// ```no_run
/// # async fn example(app: celeriac::Celery) -> Result<(), celeriac::broker::BrokerError> {
/// use std::time::Duration;
///
/// let control = app.control().destination(["images@host"]).timeout(Duration::from_secs(5));
/// for (node, answer) in control.pool_grow(2).await? {
///     println!("{node}: {}", answer.unwrap_or_else(|refusal| refusal));
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Control {
    pub(super) shared: Arc<Shared>,
    /// To whom, and how long answers are waited for.
    template: Broadcast,
}

pub(super) struct Shared {
    pub(super) broker: Broker,
    replies: ReplyQueues,
    pub(super) exchange: String,
    pub(super) clock: LogicalClock,
    pub(super) codec: Codec,
    pub(super) accept: Accept,
}

impl Control {
    /// Control over the workers at that broker, under those settings.
    pub fn new(broker: Broker, config: &Config, codecs: &Codecs, clock: LogicalClock) -> Self {
        let shared = Shared {
            replies: broker.reply_queues(),
            broker,
            exchange: format!("{}.pidbox", config.control_exchange),
            clock,
            codec: codecs.codec(config.task_serializer.as_str()).unwrap_or_default(),
            accept: codecs.accept(config).unwrap_or_default(),
        };
        Self { shared: Arc::new(shared), template: Broadcast::new("") }
    }

    /// Commands the workers of these node names only.
    #[must_use]
    pub fn destination(mut self, nodes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.template = self.template.destination(nodes);
        self
    }

    /// Commands the workers whose node names match only.
    #[must_use]
    pub fn pattern(mut self, pattern: impl Into<String>, matcher: Matcher) -> Self {
        self.template = self.template.pattern(pattern, matcher);
        self
    }

    /// Sets how long answers are waited for at most.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.template = self.template.timeout(timeout);
        self
    }

    /// Questions to the same workers.
    pub fn inspect(&self) -> Inspect {
        Inspect::new(self.clone(), self.template.clone())
    }

    /// A command for the same workers.
    pub(super) fn broadcast(&self, command: &str) -> Broadcast {
        Broadcast { command: command.to_owned(), ..self.template.clone() }
    }

    /// Sends a command and waits for no answer; returns how many listen, or the largest number where that is not known
    /// (in a Redis Cluster).
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker cannot be reached or refuses.
    pub async fn cast(&self, broadcast: &Broadcast) -> Result<u64, BrokerError> {
        let message = self.encode(broadcast, None, 0.0)?;
        Ok(self.shared.broker.broadcast(&message).await?.unwrap_or(u64::MAX))
    }

    /// As [`Control::cast`], for a command that revokes tasks: the broker keeps their ids for workers that start later.
    pub(super) async fn cast_revocation(
        &self,
        broadcast: &Broadcast,
        ids: &[String],
    ) -> Result<(), BrokerError> {
        let message = self.encode(broadcast, None, 0.0)?;
        self.shared.broker.broadcast_revocation(ids, revocations::BOUNDS, &message).await.map(drop)
    }

    /// Sends a command and collects the answers: until all have answered who listen, or the time is over.
    ///
    /// If it is cancelled, workers may carry the command out all the same.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn call(&self, broadcast: Broadcast) -> Result<Replies, BrokerError> {
        self.call_with(broadcast, |_, _| {}).await
    }

    /// As [`Control::call`]; tells of each answer as soon as it comes.
    pub(crate) async fn call_with(
        &self,
        broadcast: Broadcast,
        each: impl FnMut(&str, &Value),
    ) -> Result<Replies, BrokerError> {
        let deadline = Instant::now() + broadcast.timeout;
        let ticket = uuid::Uuid::new_v4().to_string();
        let address = ReplyAddress {
            exchange: format!("reply.{}", self.shared.exchange),
            routing_key: uuid::Uuid::new_v4().to_string(),
        };
        let expires = SystemTime::now() + broadcast.timeout;
        let expires = expires.duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64());
        let reply_to = ReplyTo { address: address.clone(), ticket: ticket.as_str().into() };
        let request = self.encode(&broadcast, Some(reply_to), expires)?;
        let (mut queue, listeners) = self.shared.replies.ask(address, &request).await?;
        let listeners = listeners.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
        let wanted = match (broadcast.limit, broadcast.destination.len()) {
            (Some(limit), _) => limit.min(listeners),
            (None, 0) => listeners,
            (None, nodes) => nodes.min(listeners),
        };
        let replies = self.collect(&mut queue, &ticket, wanted, deadline, each).await;
        queue.close().await;
        replies
    }

    /// Writes a request; `expires` is Unix time, 0 for never.
    fn encode(
        &self,
        broadcast: &Broadcast,
        reply_to: Option<ReplyTo>,
        expires: f64,
    ) -> Result<Message, BrokerError> {
        let Shared { exchange, clock, codec, .. } = &*self.shared;
        broadcast.request(reply_to).encode(exchange, clock.forward(), expires, codec.clone())
    }

    async fn collect(
        &self,
        queue: &mut ReplyQueue,
        ticket: &str,
        wanted: usize,
        deadline: Instant,
        mut each: impl FnMut(&str, &Value),
    ) -> Result<Replies, BrokerError> {
        let mut replies = Replies::new();
        let mut answered = 0;
        while answered < wanted
            && let Some(message) = queue.next(deadline).await?
        {
            let Some((node, value)) = self.answer(&message, ticket) else { continue };
            answered += 1;
            each(&node, &value);
            if replies.insert(node.clone(), ControlReply { value }).is_some() {
                log::warn!(worker = node.as_str(); "Received multiple replies from node {node}\nhint: give each worker a node name of its own (-n)");
            }
        }
        Ok(replies)
    }

    /// Node and answer in a message, if it answers that ticket.
    fn answer(&self, message: &Message, ticket: &str) -> Option<(String, Value)> {
        let payload = match message.payload(&self.shared.accept) {
            Ok(payload) => payload,
            Err(error) => {
                log::warn!(error:% = error; "An answer of a worker cannot be read: {error}");
                return None;
            }
        };
        let header = |name: &str| message.headers.extra.get(name);
        let clock = header("clock").and_then(Value::as_i64).and_then(|clock| u64::try_from(clock).ok());
        self.shared.clock.adjust(clock.unwrap_or(0));
        if header("ticket").and_then(Value::as_str).is_some_and(|other| other != ticket) {
            return None;
        }
        let Value::Map(entries) = payload else { return None };
        entries.into_iter().next()
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Control").field("exchange", &self.shared.exchange).finish_non_exhaustive()
    }
}
