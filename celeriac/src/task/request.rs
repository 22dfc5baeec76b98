//! A delivery turned into work: everything that a task may know about its own call.

use std::sync::Arc;
use std::time::Instant;

use crate::message::surrogates::shown;
use crate::message::{Body, DeliveryInfo, Headers, Map, Properties, Value};

/// One run of a task: its headers, arguments, and how it came here.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// Task name, by which the function is found.
    pub task: String,
    /// Task id.
    pub id: String,
    /// The message's headers.
    pub headers: Arc<Headers>,
    /// The message's properties.
    pub properties: Arc<Properties>,
    /// Arguments and the signatures that follow.
    pub body: Body,
    /// Node name of the worker.
    pub hostname: String,
    /// The time at which its message was taken, unless that is not known any more.
    pub(crate) taken: Option<Instant>,
}

impl Request {
    /// The request of a task message.
    pub fn new(
        headers: impl Into<Arc<Headers>>,
        properties: impl Into<Arc<Properties>>,
        body: Body,
        hostname: &str,
    ) -> Self {
        let (headers, properties) = (headers.into(), properties.into());
        Self {
            task: headers.task.clone().unwrap_or_default(),
            id: headers.id.clone().unwrap_or_default(),
            headers,
            properties,
            body,
            hostname: hostname.to_owned(),
            taken: None,
        }
    }

    /// The first task of this workflow: the root id, or the task itself.
    pub fn root_id(&self) -> &str {
        self.headers.root_id.as_deref().unwrap_or(&self.id)
    }

    /// Name for logs and events: the shadow, or the task name.
    pub fn display_name(&self) -> &str {
        self.headers.shadow.as_deref().filter(|shadow| !shadow.is_empty()).unwrap_or(&self.task)
    }

    /// The text that the caller shows instead of the positional arguments (`argsrepr`), if there is one.
    pub(crate) fn hidden_args(&self) -> Option<&str> {
        self.hidden("argsrepr", self.headers.argsrepr.as_deref())
    }

    /// The text that the caller shows instead of the keyword arguments (`kwargsrepr`), if there is one.
    pub(crate) fn hidden_kwargs(&self) -> Option<&str> {
        self.hidden("kwargsrepr", self.headers.kwargsrepr.as_deref())
    }

    /// Celery sends a text of the caller's own among the properties too (`send_task` in `celery/app/base.py`); of others
    /// it is known by not being the `repr` of any arguments.
    fn hidden<'a>(&self, option: &str, text: Option<&'a str>) -> Option<&'a str> {
        text.filter(|text| {
            self.properties.extra.contains_key(option) || !shown(text).starts_with(['(', '[', '{'])
        })
    }

    /// How often the task was retried before.
    pub fn retries(&self) -> u32 {
        self.headers.retries
    }

    /// Where the message was published to.
    pub fn delivery_info(&self) -> &DeliveryInfo {
        &self.properties.delivery_info
    }

    /// Whether the message was delivered before and came back.
    pub fn redelivered(&self) -> bool {
        self.headers.redelivered || self.properties.delivery_info.redelivered
    }

    /// What `result_extended` adds (celery 5.7 `_get_result_meta`; samples `vectors/results_extended`).
    pub(crate) fn extended(&self) -> Map {
        let mut extended: Map = [
            ("name", Value::from(self.task.as_str())),
            ("args", Value::List(self.body.args.clone())),
            ("kwargs", Value::Map(self.body.kwargs.clone())),
            ("worker", Value::from(self.hostname.as_str())),
            ("retries", Value::from(self.retries())),
            ("queue", Value::from(self.delivery_info().routing_key.as_str())),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        if let Some(names) = &self.headers.stamped_headers {
            extended.insert(
                "stamped_headers".to_owned(),
                names.iter().map(|name| Value::from(name.as_str())).collect(),
            );
            for name in names {
                extended.insert(name.clone(), self.headers.stamps.get(name).cloned().unwrap_or_default());
            }
        }
        extended
    }
}
