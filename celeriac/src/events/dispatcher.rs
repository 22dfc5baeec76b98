//! Sending events.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Timezone;
use tokio::sync::Notify;

use super::buffer::{Buffer, Parcel, group_of};
use super::clock::LogicalClock;
use super::software::{IDENT, VERSION, load_average, system};
use super::task_events::TaskEvents;
use super::writer::Writer;
use crate::message::codec::Content;
use crate::message::{
    Codec, DeliveryInfo, Headers, Map, Message, Properties, ProtocolError, Serializer, Value, json,
};

/// Sends the events of one node; cheap to clone.
///
/// Its methods return at once: events wait in a bounded buffer, from which the worker publishes them. An event of a
/// group that is switched off costs one look at a flag.
#[derive(Clone)]
pub struct Dispatcher {
    shared: Arc<Shared>,
}

struct Shared {
    options: DispatcherOptions,
    /// Whether events of tasks are sent.
    tasks: AtomicBool,
    /// Whether events of workers are sent.
    workers: AtomicBool,
    /// Whether events of any other group are sent.
    others: AtomicBool,
    buffer: Mutex<Buffer>,
    filled: Notify,
}

/// Who sends events, and how.
#[derive(Clone, Debug)]
pub struct DispatcherOptions {
    /// Node name of the sender.
    pub hostname: String,
    /// Its logical clock.
    pub clock: LogicalClock,
    /// Exchange of events (`event_exchange`).
    pub exchange: String,
    /// How events are written (`event_serializer`).
    pub codec: Codec,
    /// Time zone of times without an offset (`timezone`).
    pub timezone: Timezone,
}

/// What heartbeats tell of a worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    /// Seconds between two heartbeats.
    pub frequency: f64,
    /// How many tasks run.
    pub active: usize,
    /// How many tasks were accepted since the start.
    pub processed: u64,
}

impl Dispatcher {
    /// A dispatcher that sends the events of workers, and of tasks and other groups if told so (`-E`).
    pub fn new(options: DispatcherOptions, task_events: bool) -> Self {
        let buffer = Mutex::new(Buffer::new(&options.hostname));
        Self {
            shared: Arc::new(Shared {
                options,
                tasks: AtomicBool::new(task_events),
                workers: AtomicBool::new(true),
                others: AtomicBool::new(task_events),
                buffer,
                filled: Notify::new(),
            }),
        }
    }

    /// Who sends, and how.
    pub fn options(&self) -> &DispatcherOptions {
        &self.shared.options
    }

    /// Whether events of tasks are sent.
    pub fn sends_task_events(&self) -> bool {
        self.shared.tasks.load(Ordering::Relaxed)
    }

    /// Switches events of tasks on or off; returns what it was before.
    pub fn set_task_events(&self, on: bool) -> bool {
        self.shared.tasks.swap(on, Ordering::Relaxed)
    }

    /// Switches events of workers on or off; returns what it was before.
    pub fn set_worker_events(&self, on: bool) -> bool {
        self.shared.workers.swap(on, Ordering::Relaxed)
    }

    /// The events of a task; with `send` false, as a task's `send_events`, there are none.
    pub fn task_events(&self, send: bool) -> TaskEvents<'_> {
        TaskEvents::new(self, send)
    }

    /// Any event: `task-...` of a task with its `uuid` among the fields, or of a group of your own.
    pub fn send(&self, kind: &str, fields: &Map) {
        let write = |event: &mut Writer<'_>| {
            for (name, value) in fields {
                event.field(name, value);
            }
        };
        match group_of(kind) {
            "task" if self.sends_task_events() => {
                self.add(|buffer, clock| buffer.add_to_batch(kind, clock, write))
            }
            "task" => {}
            "worker" if self.shared.workers.load(Ordering::Relaxed) => self.alone(kind, write),
            "worker" => {}
            _ if self.shared.others.load(Ordering::Relaxed) => self.alone(kind, write),
            _ => {}
        }
    }

    /// A worker started, beats, or leaves: `kind` is `worker-online`, `worker-heartbeat` or `worker-offline`.
    pub fn worker(&self, kind: &str, vitals: Vitals) {
        if !self.shared.workers.load(Ordering::Relaxed) {
            return;
        }
        self.buffer().refresh();
        self.alone(kind, |event| {
            event
                .value("freq", &vitals.frequency.into())
                .value("active", &vitals.active.into())
                .value("processed", &vitals.processed.into())
                .value("loadavg", &load_average().map(Value::from).into_iter().collect());
            software(event);
        });
    }

    /// The heartbeat that remote control asks for.
    pub(crate) fn prompted_heartbeat(&self) {
        if self.shared.workers.load(Ordering::Relaxed) {
            self.alone("worker-heartbeat", |event| {
                event.value("freq", &5.into());
                software(event);
            });
        }
    }

    /// The message of one event, to be published by the caller, as clients do it with `task-sent`.
    ///
    /// # Errors
    /// The event serializer has no form for it.
    pub fn message(&self, kind: &str, fields: &Map) -> Result<Message, ProtocolError> {
        let clock = self.shared.options.clock.forward();
        let body = self.buffer().write(kind, clock, |event| {
            for (name, value) in fields {
                event.field(name, value);
            }
        });
        self.envelope(kind.replace('-', "."), body)
    }

    /// How many events wait to be published.
    pub fn waiting(&self) -> usize {
        self.buffer().len()
    }

    /// Completes once events may have come since the last call.
    pub(super) async fn filled(&self) {
        self.shared.filled.notified().await;
    }

    /// Takes up to that many messages, oldest first, and how many events had to give way.
    pub(super) fn take(&self, count: usize) -> (Vec<Message>, u64) {
        let (parcels, dropped) = {
            let mut buffer = self.buffer();
            (buffer.take(count), buffer.take_dropped())
        };
        let message = |parcel: Parcel| match self.envelope(parcel.routing_key, parcel.body) {
            Ok(message) => Some(message),
            Err(error) => {
                log::error!(error:% = error; "An event was dropped: {error}");
                None
            }
        };
        (parcels.into_iter().filter_map(message).collect(), dropped)
    }

    /// The message that carries a body of events.
    fn envelope(&self, routing_key: String, body: Vec<u8>) -> Result<Message, ProtocolError> {
        let DispatcherOptions { hostname, exchange, codec, .. } = &self.shared.options;
        let body = match codec.serializer {
            Serializer::Json => body,
            serializer => serializer.dumps(&json::loads(&body)?)?,
        };
        let Content { content_type, content_encoding, body } = codec.finish(body)?;
        Ok(Message {
            headers: Headers {
                extra: Map::from([("hostname".to_owned(), Value::from(hostname.as_str()))]),
                ..Headers::default()
            },
            properties: Properties {
                delivery_mode: 1,
                delivery_info: DeliveryInfo { exchange: exchange.clone(), routing_key, redelivered: false },
                priority: Some(0),
                delivery_tag: uuid::Uuid::new_v4().to_string(),
                ..Properties::default()
            },
            content_type,
            content_encoding,
            body: body.into(),
        })
    }

    /// An event of a task, if these are switched on.
    pub(super) fn task(&self, kind: &str, id: &str, fields: impl FnOnce(&mut Writer<'_>)) {
        if self.sends_task_events() {
            self.add(|buffer, clock| {
                buffer.add_to_batch(kind, clock, |event| {
                    event.text("uuid", id);
                    fields(event);
                })
            });
        }
    }

    fn alone(&self, kind: &str, fields: impl FnOnce(&mut Writer<'_>)) {
        self.add(|buffer, clock| buffer.add_alone(kind, clock, fields));
    }

    fn add(&self, add: impl FnOnce(&mut Buffer, u64) -> bool) {
        let was_empty = {
            let mut buffer = self.buffer();
            // Under the lock, so that events leave in the order of their clocks.
            let clock = self.shared.options.clock.forward();
            add(&mut buffer, clock)
        };
        if was_empty {
            self.shared.filled.notify_one();
        }
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.shared.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Dispatcher").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

fn software(event: &mut Writer<'_>) {
    event.text("sw_ident", IDENT).text("sw_ver", VERSION).text("sw_sys", system());
}
