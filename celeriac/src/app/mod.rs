//! The application: settings, the way to broker and result backend, and the tasks that are known here.

mod commit;
mod error;
mod group;
mod prepare;
mod recover;
mod result;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use commit::Steps;
pub use error::{Error, Result};
pub use recover::Recovered;
pub use result::AsyncResult;

use crate::backend::{Backend, ResultRef};
use crate::broker::{Broker, BrokerError};
use crate::canvas::{self, Outbox, Sender};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::control::Control;
use crate::events::{Dispatcher, DispatcherOptions, LogicalClock, Receiver};
use crate::message::{Codecs, Map, Message, ProtocolError, Signature, Value};
use crate::schema::Schemas;
use crate::task::{Request, Task, TaskDefinition};

/// A Celery application; cheap to clone.
///
/// ```no_run
/// # async fn example() -> celeriac::Result<()> {
/// use celeriac::{Celery, Value};
/// use std::time::Duration;
///
/// let app = Celery::from_env("proj")?;
/// let handle = app.send_task("proj.tasks.add", [1, 2], []).await?;
/// let sum: i64 = handle.get_as(Duration::from_secs(10)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Celery {
    shared: Arc<Shared>,
    tasks: Arc<HashMap<Arc<str>, TaskDefinition>>,
    before_publish: Arc<[Arc<BeforePublish>]>,
}

type BeforePublish = dyn Fn(&mut Message) + Send + Sync;

struct Shared {
    name: String,
    config: Config,
    broker: Broker,
    clock: Clock,
    backend: Option<Backend>,
    origin: String,
    reply_to: String,
    codecs: Codecs,
    events: Dispatcher,
}

impl Celery {
    /// An application of that name under those settings; nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::MissingSetting`] without a broker, [`Error::TwoBrokers`] with two, and those of a broker or result
    /// backend URL.
    pub fn new(name: &str, config: Config) -> Result<Self> {
        let url = match (config.read_url(), config.write_url()) {
            (Some(read), Some(write)) if read == write => read,
            (Some(_), Some(_)) => return Err(Error::TwoBrokers),
            _ => {
                return Err(Error::MissingSetting {
                    setting: "broker_url",
                    variable: "CELERY_BROKER_URL",
                    example: "redis://127.0.0.1:6379/0",
                });
            }
        };
        let codecs = Codecs::new(&config)?;
        if matches!(
            config.result_serializer,
            config::BodySerializer::Auth | config::BodySerializer::Encrypted
        ) {
            let hint = "results are not signed or encrypted; hint: result_serializer = json, and for readers in \
                        Python result_accept_content = [json]";
            return Err(
                ProtocolError::Security { setting: "result_serializer", reason: hint.to_owned() }.into()
            );
        }
        let broker = Broker::open(url, &config)?;
        let backend = match &config.result_backend {
            Some(url) if url.scheme() != "disabled" => Some(Backend::open(url, &config)?),
            _ => None,
        };
        let host = hostname::get()
            .map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned());
        let origin = format!("gen{}@{host}", std::process::id());
        Ok(Self {
            shared: Arc::new(Shared {
                name: name.to_owned(),
                clock: broker.clock(),
                broker: broker.beside(backend.as_ref()),
                backend,
                reply_to: uuid::Uuid::new_v4().to_string(),
                events: Dispatcher::new(
                    DispatcherOptions {
                        hostname: origin.clone(),
                        clock: LogicalClock::default(),
                        exchange: config.event_exchange.clone(),
                        codec: codecs.codec(config.event_serializer.as_str())?,
                        timezone: config.timezone_or_utc(),
                    },
                    true,
                ),
                codecs,
                origin,
                config,
            }),
            tasks: Arc::default(),
            before_publish: Arc::default(),
        })
    }

    /// An application of that name with the settings of the environment (`CELERY_BROKER_URL`, ...).
    ///
    /// # Errors
    /// The same as [`Celery::new`], and a variable that cannot be read.
    pub fn from_env(name: &str) -> Result<Self> {
        Self::new(name, Config::from_env()?)
    }

    /// The same application that knows one more task.
    #[must_use]
    pub fn task(mut self, task: impl Task) -> Self {
        let mut definition = task.definition();
        if let Some(annotations) = &self.shared.config.task_annotations
            && let Err(wrong) = definition.annotate(annotations)
        {
            wrong.iter().for_each(|reason| log::error!("{reason}"));
        }
        Arc::make_mut(&mut self.tasks).insert(Arc::clone(&definition.name), definition);
        self
    }

    /// The same application that calls a function with each task message before it is published
    /// (`before_task_publish`), also with those that its worker sends: links, chain steps, chord bodies, retries.
    ///
    /// The function may change the message; headers of its own in `headers.extra` reach the task, as
    /// `ctx.request().headers.extra`, in Rust and in Python (`self.request.headers`). It must not block.
    #[must_use]
    pub fn before_task_publish(mut self, hook: impl Fn(&mut Message) + Send + Sync + 'static) -> Self {
        let hook: Arc<BeforePublish> = Arc::new(hook);
        self.before_publish = self.before_publish.iter().cloned().chain([hook]).collect();
        self
    }

    /// The name of the application.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// How messages are written and read.
    pub fn codecs(&self) -> &Codecs {
        &self.shared.codecs
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Returns the broker: its queues, their lengths and bindings, and the messages that workers have given up.
    pub fn broker(&self) -> &Broker {
        &self.shared.broker
    }

    /// Returns the clock by which etas, expirations, retries and results go: the system's, unless a test simulates one.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Remote control of the workers on this broker.
    pub fn control(&self) -> Control {
        Control::new(
            self.broker().clone(),
            &self.shared.config,
            &self.shared.codecs,
            self.shared.events.options().clock.clone(),
        )
    }

    /// The events of workers and clients on this broker: those of a routing key, `#` for all, `task.#`, `worker.#`.
    ///
    /// Workers are asked for a heartbeat, so that they are known at once.
    ///
    /// Cancel safe: what was subscribed to is given up.
    pub async fn events(&self, routing_key: &str) -> Receiver {
        let DispatcherOptions { exchange, clock, .. } = self.shared.events.options();
        let receiver = Receiver::open(self.broker(), exchange, routing_key, clock.clone()).await;
        if let Err(error) = self.control().heartbeat().await {
            log::debug!(error:% = error; "No worker was asked for a heartbeat: {error}");
        }
        receiver.accepting(self.shared.codecs.accept_all())
    }

    /// Sends an event, whether events are switched on or not, as a node of that name.
    ///
    /// # Errors
    /// Those of the broker, and of a field that the event serializer has no form for.
    pub(crate) async fn send_event(&self, hostname: &str, kind: &str, fields: &Map) -> Result<()> {
        let options =
            DispatcherOptions { hostname: hostname.to_owned(), ..self.shared.events.options().clone() };
        let message = Dispatcher::new(options, true).message(kind, fields).map_err(BrokerError::from)?;
        Ok(self.broker().publish(&[message]).await?)
    }

    /// The tasks that are known here, by name.
    pub fn tasks(&self) -> &HashMap<Arc<str>, TaskDefinition> {
        &self.tasks
    }

    /// What the tasks that are known here take and return.
    pub fn schemas(&self) -> Schemas {
        Schemas::of(self.tasks.values())
    }

    /// The result backend, if there is one.
    pub(crate) fn result_backend(&self) -> Option<&Backend> {
        self.shared.backend.as_ref()
    }

    /// Whether one step can hold what is written to broker and result backend now.
    pub(crate) fn commits_together(&self) -> bool {
        self.shared.backend.as_ref().is_none_or(|backend| self.shared.broker.joins(backend))
    }

    /// The result backend.
    ///
    /// # Errors
    /// [`Error::NoBackend`] when none is configured.
    pub fn backend(&self) -> Result<&Backend> {
        self.shared.backend.as_ref().ok_or(Error::NoBackend)
    }

    /// Applies a signature: a task, chain, group or chord.
    ///
    /// If it is cancelled, all of it may have been sent all the same, or nothing: what one signature sends is one step.
    ///
    /// # Errors
    /// [`Error::Canvas`] when it cannot be applied, [`Error::Broker`] when it could not be sent.
    pub async fn apply(&self, signature: impl Into<Signature>) -> Result<AsyncResult> {
        self.apply_for(&signature.into(), None).await
    }

    /// Applies signatures together: all are sent in one step, or none.
    ///
    /// # Errors
    /// The same as [`Celery::apply`].
    pub async fn apply_all(
        &self,
        signatures: impl IntoIterator<Item = impl Into<Signature>>,
    ) -> Result<Vec<AsyncResult>> {
        let mut outbox = Outbox::new();
        let results: Vec<ResultRef> = self.with_sender(None, |sender| {
            let apply = |signature: Signature| {
                canvas::apply(signature, Vec::new(), Map::new(), Map::new(), sender, &mut outbox)
            };
            signatures.into_iter().map(Into::into).map(apply).collect::<std::result::Result<_, _>>()
        })?;
        self.commit(outbox.effects).await?;
        Ok(results.into_iter().map(|result| AsyncResult::new(self.clone(), result)).collect())
    }

    /// Sends a task by its name; no definition of it is needed here.
    ///
    /// If it is cancelled, the message may have been sent all the same.
    ///
    /// # Errors
    /// The same as [`Celery::apply`].
    pub async fn send_task<A, K>(&self, name: &str, args: A, kwargs: K) -> Result<AsyncResult>
    where
        A: IntoIterator<Item: Into<Value>>,
        K: IntoIterator<Item = (&'static str, Value)>,
    {
        let signature = Signature {
            task: name.to_owned(),
            args: args.into_iter().map(Into::into).collect(),
            kwargs: kwargs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            ..Signature::default()
        };
        self.apply(signature).await
    }

    /// A handle on the result of a task that was sent elsewhere.
    pub fn result(&self, task_id: impl Into<String>) -> AsyncResult {
        AsyncResult::new(self.clone(), ResultRef::task(task_id))
    }

    /// Applies a signature on behalf of a running task.
    pub(crate) async fn apply_for(
        &self,
        signature: &Signature,
        parent: Option<&Request>,
    ) -> Result<AsyncResult> {
        let mut outbox = Outbox::new();
        let result = self.with_sender(parent, |sender| {
            canvas::apply(signature.clone(), Vec::new(), Map::new(), Map::new(), sender, &mut outbox)
        })?;
        self.commit(outbox.effects).await?;
        Ok(AsyncResult::new(self.clone(), result))
    }

    /// Calls a function with the surroundings for applying signatures.
    pub(crate) fn with_sender<R>(&self, parent: Option<&Request>, call: impl FnOnce(&Sender<'_>) -> R) -> R {
        let tasks = |name: &str| self.tasks.get(name).map(|definition| definition.options.clone());
        call(&Sender {
            config: &self.shared.config,
            codecs: &self.shared.codecs,
            tasks: &tasks,
            origin: &self.shared.origin,
            reply_to: &self.shared.reply_to,
            now: self.clock().now(),
            new_id: &canvas::random_id,
            parent,
        })
    }
}

impl std::fmt::Debug for Celery {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Celery").field("name", &self.shared.name).finish_non_exhaustive()
    }
}
