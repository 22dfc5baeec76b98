//! Looking at what was sent, given up, and stored.

use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::Timezone;
use crate::app::Celery;
use crate::backend::{Backend, TaskMeta};
use crate::broker::DeadLetter;
use crate::broker::memory::{self, Server};
use crate::message::{Accept, Map, Message, Value};

/// The messages of tasks that were sent, in their order; also those that a worker sent, such as retries and callbacks.
#[derive(Clone, Debug, Default)]
pub struct Sent(Vec<SentTask>);

/// One message of a task that was sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SentTask {
    /// Name of the task.
    pub name: String,
    /// Id of the task.
    pub id: String,
    /// The queue that the message came to.
    pub queue: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map,
    /// The time before which it does not start.
    pub eta: Option<DateTime<Utc>>,
    /// The time after which it is not run.
    pub expires: Option<DateTime<Utc>>,
    /// Number of earlier retries.
    pub retries: u32,
    /// The time at which it was sent, by the clock of the test.
    pub at: DateTime<Utc>,
    /// The whole message.
    pub message: Message,
}

impl SentTask {
    fn of(sent: memory::Sent, accept: &Accept) -> Self {
        let memory::Sent { queue, message, at } = sent;
        let body = message.body(accept).unwrap_or_default();
        let headers = &message.headers;
        let time = |time: Option<DateTime<_>>| time.map(|time| time.with_timezone(&Utc));
        Self {
            name: headers.task.clone().unwrap_or_default(),
            id: headers.id.clone().unwrap_or_default(),
            queue,
            args: body.args,
            kwargs: body.kwargs,
            eta: time(headers.eta(Timezone::UTC).ok().flatten()),
            expires: time(headers.expires(Timezone::UTC).ok().flatten()),
            retries: headers.retries,
            at,
            message,
        }
    }
}

impl Sent {
    /// Returns those of the task of that name.
    #[must_use]
    pub fn task(&self, name: &str) -> Self {
        self.filter(|sent| sent.name == name)
    }

    /// Returns those that came to the queue of that name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Self {
        self.filter(|sent| sent.queue == name)
    }

    /// Returns those with these positional arguments.
    #[must_use]
    pub fn args(&self, args: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        let args: Vec<Value> = args.into_iter().map(Into::into).collect();
        self.filter(|sent| sent.args == args)
    }

    /// Returns those with that keyword argument, whatever others they have.
    #[must_use]
    pub fn kwarg(&self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.filter(|sent| sent.kwargs.get(name) == Some(&value))
    }

    /// Returns those that `wanted` picks.
    #[must_use]
    pub fn filter(&self, wanted: impl Fn(&SentTask) -> bool) -> Self {
        Self(self.0.iter().filter(|sent| wanted(sent)).cloned().collect())
    }

    /// Returns the only one.
    ///
    /// # Panics
    /// Panics when there is none, or more than one; the text lists them.
    #[track_caller]
    pub fn only(&self) -> &SentTask {
        match self.0.as_slice() {
            [sent] => sent,
            all => {
                let line = |sent: &SentTask| {
                    format!(
                        "\n  {}[{}] to {} with {:?} {:?}",
                        sent.name, sent.id, sent.queue, sent.args, sent.kwargs
                    )
                };
                let lines: String = all.iter().map(line).collect();
                panic!("one sent task was expected, not {}{lines}", all.len());
            }
        }
    }
}

impl Deref for Sent {
    type Target = [SentTask];

    fn deref(&self) -> &[SentTask] {
        &self.0
    }
}

/// Returns the messages of tasks that were sent so far to the broker of that application.
///
/// # Panics
/// Panics when the broker is not in memory.
#[track_caller]
pub fn sent(app: &Celery) -> Sent {
    let accept = app.codecs().accept_all();
    let all = server(app).read(|state| state.sent.clone());
    Sent(all.into_iter().map(|sent| SentTask::of(sent, &accept)).collect())
}

/// Returns the messages that workers gave up, the oldest first.
///
/// # Panics
/// Panics when the broker is not in memory.
#[track_caller]
pub fn dead_letters(app: &Celery) -> Vec<DeadLetter> {
    server(app).read(|state| state.dead_letters.clone())
}

/// Returns what is stored of all tasks, by their ids.
///
/// # Panics
/// Panics when the result backend is not in memory.
#[track_caller]
pub fn results(app: &Celery) -> Vec<TaskMeta> {
    let Some(backend) = app.result_backend().and_then(Backend::memory) else {
        panic!("the result backend of {app:?} is not in memory");
    };
    let mut ids = backend.read(|now, results| results.task_ids(now));
    ids.sort_unstable();
    ids.iter().filter_map(|id| backend.meta(id).ok().flatten()).collect()
}

/// The server of an application's broker.
#[track_caller]
pub(super) fn server(app: &Celery) -> &Arc<Server> {
    match app.broker().memory() {
        Some(broker) => broker.server(),
        None => {
            panic!("the broker of {app:?} is not in memory: make it with celeriac::testing::app or config")
        }
    }
}
