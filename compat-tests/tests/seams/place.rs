//! A broker and a result backend of one kind, and what a test sees of them from outside.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use celeriac::Celery;
use celeriac::broker::DeadLetters;
use celeriac::config::Config;
use celeriac::message::{Body, DeliveryInfo, Headers, Message, Properties, Serializer, Value};
use compat_tests::RedisServer;

/// How long something may take that happens at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// How long nothing must happen to count as nothing.
pub(crate) const NEVER: Duration = Duration::from_millis(300);

/// An application at one kind of server.
pub(crate) struct Place {
    pub(crate) app: Celery,
    kind: Kind,
}

enum Kind {
    Redis(Box<RedisServer>),
    Memory,
    MemoryLikeAmqp,
}

impl Place {
    /// A private Redis server, which keeps messages and results.
    pub(crate) fn redis(change: impl FnOnce(&mut Config)) -> Self {
        let server = RedisServer::start();
        let app = application(&server.url(), change);
        Self { app, kind: Kind::Redis(Box::new(server)) }
    }

    /// A server in memory, which keeps messages and results.
    pub(crate) fn memory(change: impl FnOnce(&mut Config)) -> Self {
        Self { app: application(&in_memory(), change), kind: Kind::Memory }
    }

    /// One that has no more than an AMQP broker.
    pub(crate) fn memory_like_amqp(change: impl FnOnce(&mut Config)) -> Self {
        let url = format!("{}?limits=amqp", in_memory());
        Self { app: application(&url, change), kind: Kind::MemoryLikeAmqp }
    }

    /// The same kind of server, a new one, with other settings.
    pub(crate) fn again(&self, change: impl FnOnce(&mut Config)) -> Self {
        match &self.kind {
            Kind::Redis(_) => Self::redis(change),
            Kind::Memory => Self::memory(change),
            Kind::MemoryLikeAmqp => Self::memory_like_amqp(change),
        }
    }

    /// Puts bytes into a queue that may be no message.
    pub(crate) async fn inject(&self, queue: &str, raw: &'static [u8]) {
        match &self.kind {
            Kind::Redis(server) => {
                let mut connection = server.async_connection().await;
                redis::cmd("LPUSH").arg(queue).arg(raw).exec_async(&mut connection).await.unwrap();
            }
            Kind::Memory | Kind::MemoryLikeAmqp => celeriac::testing::seam::inject(&self.app, queue, raw),
        }
    }

    /// The messages that were given up.
    pub(crate) fn dead_letters(&self) -> DeadLetters {
        self.app.broker().dead_letters().unwrap()
    }
}

fn in_memory() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("memory://seam-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn application(url: &str, change: impl FnOnce(&mut Config)) -> Celery {
    let mut config = Config::default();
    config.broker_url = Some(url.into());
    config.result_backend = Some(url.into());
    change(&mut config);
    Celery::new("seams", config).unwrap()
}

/// A message for a queue, known by its id.
pub(crate) fn message(id: &str, queue: &str) -> Message {
    to("", queue, id)
}

/// The same with a priority.
pub(crate) fn urgent(id: &str, queue: &str, priority: u8) -> Message {
    let mut message = message(id, queue);
    message.properties.priority = Some(priority);
    message
}

/// A message for an exchange, known by its id.
pub(crate) fn to(exchange: &str, routing_key: &str, id: &str) -> Message {
    let headers = Headers { id: Some(id.into()), task: Some("seams.task".into()), ..Headers::default() };
    let delivery_info = DeliveryInfo {
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        ..DeliveryInfo::default()
    };
    let properties = Properties {
        delivery_tag: format!("tag-{id}"),
        delivery_info,
        priority: Some(0),
        delivery_mode: 2,
        ..Properties::default()
    };
    let mut message = Message { headers, properties, ..Message::default() };
    let body = Body { args: vec![Value::from(id)], ..Body::default() };
    message.set_body(&body, Serializer::Json, None).unwrap();
    message
}
