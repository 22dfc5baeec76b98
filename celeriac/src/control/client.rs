//! The side that asks: broadcasting commands and collecting the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indexmap::IndexMap;
use redis::{Pipeline, Value as Reply, cmd};
use tokio::time::Instant;

use super::bindings;
use super::inspect::Inspect;
use super::mailbox::{ReplyTo, Request};
use super::matcher::Matcher;
use super::python;
use crate::broker::BrokerError;
use crate::broker::redis::{Keys, Queues};
use crate::config::Config;
use crate::events::LogicalClock;
use crate::message::{Accept, Codec, Codecs, Map, Message, Value, envelope};

/// Longest single wait for an answer, so that no connection's time-out cuts it short.
const WAIT: Duration = Duration::from_millis(250);
/// How often bindings that crashed clients left are looked for (`BINDING_SWEEP_INTERVAL`).
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

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
    shared: Arc<Shared>,
    /// To whom, and how long answers are waited for.
    template: Broadcast,
}

struct Shared {
    queues: Queues,
    exchange: String,
    clock: LogicalClock,
    codec: Codec,
    accept: Accept,
    /// Unix time of the last sweep, in seconds.
    swept: AtomicU64,
}

impl Control {
    /// Control over those queues, under those settings.
    pub fn new(queues: Queues, config: &Config, codecs: &Codecs, clock: LogicalClock) -> Self {
        let shared = Shared {
            queues,
            exchange: format!("{}.pidbox", config.control_exchange),
            clock,
            codec: codecs.codec(config.task_serializer.as_str()).unwrap_or_default(),
            accept: codecs.accept(config).unwrap_or_default(),
            swept: AtomicU64::new(0),
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
    /// # Errors
    /// Those of the broker.
    pub async fn cast(&self, broadcast: &Broadcast) -> Result<u64, BrokerError> {
        self.cast_after(broadcast, Pipeline::new()).await
    }

    /// As [`Control::cast`], after other commands in the same round trip.
    pub(super) async fn cast_after(
        &self,
        broadcast: &Broadcast,
        first: Pipeline,
    ) -> Result<u64, BrokerError> {
        self.publish(broadcast.request(None), 0.0, first).await
    }

    /// The names of the keys.
    pub(super) fn keys(&self) -> &Keys {
        self.shared.queues.keys()
    }

    /// Sends a command and collects the answers: until all have answered who listen, or the time is over.
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
        let reply_to = ReplyTo {
            exchange: format!("reply.{}", self.shared.exchange),
            routing_key: uuid::Uuid::new_v4().to_string(),
            ticket: ticket.as_str().into(),
        };
        let queue = ReplyQueue { queues: self.shared.queues.clone(), reply_to: Some(reply_to.clone()) };
        let mut binding = Pipeline::new();
        binding.add_command(bindings::bind(self.shared.queues.keys(), &reply_to));
        let expires = SystemTime::now() + broadcast.timeout;
        let expires = expires.duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64());
        let listeners = self.publish(broadcast.request(Some(reply_to.clone())), expires, binding).await?;
        let listeners = usize::try_from(listeners).unwrap_or(usize::MAX);
        let wanted = match (broadcast.limit, broadcast.destination.len()) {
            (Some(limit), _) => limit.min(listeners),
            (None, 0) => listeners,
            (None, nodes) => nodes.min(listeners),
        };
        let replies = self.collect(&reply_to, &ticket, wanted, deadline, each).await;
        queue.remove(self.sweep()).await;
        replies
    }

    async fn publish(&self, request: Request, expires: f64, mut first: Pipeline) -> Result<u64, BrokerError> {
        let Shared { queues, exchange, clock, codec, .. } = &*self.shared;
        let message = request.encode(exchange, clock.forward(), expires, codec.clone())?;
        for command in queues.publish_commands(std::slice::from_ref(&message)).await? {
            first.add_command(command);
        }
        let replies = queues.link().call(&mut first).await?;
        // A node of a cluster counts those that listen to itself, and who listens to two channels is counted twice.
        if queues.link().endpoint().is_cluster() || queues.keys().fanout_repeats() {
            return Ok(u64::MAX);
        }
        Ok(match replies.last() {
            Some(Reply::Int(listeners)) => u64::try_from(*listeners).unwrap_or(0),
            _ => 0,
        })
    }

    async fn collect(
        &self,
        reply_to: &ReplyTo,
        ticket: &str,
        wanted: usize,
        deadline: Instant,
        mut each: impl FnMut(&str, &Value),
    ) -> Result<Replies, BrokerError> {
        let mut replies = Replies::new();
        if wanted == 0 {
            return Ok(replies);
        }
        let link = self.shared.queues.link();
        let lists = self.shared.queues.keys().queue_steps(&reply_to.queue());
        // Waiting blocks a connection, so it is one of its own.
        let mut connection = link.dedicated(None).await?;
        let mut answered = 0;
        while answered < wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let wait = left.min(WAIT).max(Duration::from_millis(1));
            let mut pop = cmd("BRPOP");
            pop.arg(&lists).arg(wait.as_secs_f64());
            let popped = connection.reply(&pop).await.map_err(|error| link.broken(error))?;
            let Reply::Array(parts) = popped else { continue };
            let Some(Reply::BulkString(raw)) = parts.get(1) else { continue };
            if let Some((node, value)) = self.answer(raw, ticket) {
                answered += 1;
                each(&node, &value);
                if replies.insert(node.clone(), ControlReply { value }).is_some() {
                    log::warn!(worker = node.as_str(); "Received multiple replies from node {node}\nhint: give each worker a node name of its own (-n)");
                }
            }
        }
        Ok(replies)
    }

    /// Node and answer in a message, if it answers that ticket.
    fn answer(&self, raw: &[u8], ticket: &str) -> Option<(String, Value)> {
        let read = envelope::decode(raw).and_then(|message: Message| {
            let payload = message.payload(&self.shared.accept)?;
            Ok((message, payload))
        });
        let (message, payload) = match read {
            Ok(read) => read,
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

    /// The command that sweeps bindings, when it is time for it.
    fn sweep(&self) -> Option<redis::Cmd> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        let swept = self.shared.swept.swap(now, Ordering::Relaxed);
        if now.saturating_sub(swept) < SWEEP_INTERVAL.as_secs() {
            self.shared.swept.store(swept, Ordering::Relaxed);
            return None;
        }
        Some(bindings::sweep(self.shared.queues.keys()))
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Control").field("exchange", &self.shared.exchange).finish_non_exhaustive()
    }
}

/// A queue for answers, removed also when nobody waits to the end.
struct ReplyQueue {
    queues: Queues,
    reply_to: Option<ReplyTo>,
}

impl ReplyQueue {
    async fn remove(mut self, sweep: Option<redis::Cmd>) {
        if let Some(reply_to) = self.reply_to.take() {
            remove(self.queues.clone(), reply_to, sweep).await;
        }
    }
}

impl Drop for ReplyQueue {
    fn drop(&mut self) {
        if let (Some(reply_to), Ok(runtime)) = (self.reply_to.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(remove(self.queues.clone(), reply_to, None));
        }
    }
}

async fn remove(queues: Queues, reply_to: ReplyTo, sweep: Option<redis::Cmd>) {
    let mut commands = bindings::unbind(queues.keys(), &reply_to);
    if let Some(sweep) = sweep {
        commands.add_command(sweep);
    }
    if let Err(error) = queues.link().call(&mut commands).await {
        log::debug!(error:% = error; "A reply queue was left behind: {error}");
    }
}
