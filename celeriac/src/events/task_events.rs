//! What a worker tells of one task.

use chrono::{DateTime, SecondsFormat, Utc};

use super::dispatcher::Dispatcher;
use super::writer::Writer;
use crate::backend::ExceptionInfo;
use crate::message::{Headers, ProtocolError, Value, repr};

/// Longest text that shows a result (`resultrepr_maxsize` of `celery/app/task.py`).
const MAX_RESULT: usize = 1024;
/// Deepest level that it shows (`celery/utils/saferepr.py`).
const MAX_LEVELS: usize = 3;

/// The events of a task: what happened to it. Made by [`Dispatcher::task_events`].
///
/// Source: celery 5.7 `celery/worker/request.py`, `celery/worker/strategy.py`; samples `vectors/events`.
#[derive(Clone, Copy)]
#[must_use = "it sends nothing by itself"]
pub struct TaskEvents<'a> {
    dispatcher: &'a Dispatcher,
    send: bool,
}

impl<'a> TaskEvents<'a> {
    pub(super) fn new(dispatcher: &'a Dispatcher, send: bool) -> Self {
        Self { dispatcher, send }
    }

    /// A worker got it.
    pub fn received(self, headers: &Headers) {
        if !self.send || !self.dispatcher.sends_task_events() {
            return;
        }
        let timezone = self.dispatcher.options().timezone;
        let (eta, expires) = (headers.eta(timezone), headers.expires(timezone));
        self.dispatcher.task("task-received", headers.id.as_deref().unwrap_or_default(), |event| {
            event
                .text("name", display_name(headers))
                .text("args", headers.argsrepr.as_deref().unwrap_or_default())
                .text("kwargs", headers.kwargsrepr.as_deref().unwrap_or_default())
                .optional("root_id", headers.root_id.as_deref())
                .optional("parent_id", headers.parent_id.as_deref())
                .value("retries", &headers.retries.into())
                .value("eta", &moment(eta))
                .value("expires", &moment(expires));
        });
    }

    /// It began to run.
    pub fn started(self, id: &str) {
        self.send("task-started", id, |_| {});
    }

    /// It returned, after that many seconds.
    pub fn succeeded(self, id: &str, result: &Value, runtime: f64) {
        self.send("task-succeeded", id, |event| {
            event
                .text("result", &repr::saferepr(result, MAX_RESULT, MAX_LEVELS))
                .value("runtime", &Value::Float(runtime));
        });
    }

    /// It failed.
    pub fn failed(self, id: &str, exception: &ExceptionInfo, traceback: Option<&str>) {
        self.send("task-failed", id, |event| {
            event.text("exception", &exception_repr(exception));
            if let Some(traceback) = traceback {
                event.text("traceback", traceback);
            }
        });
    }

    /// It will be run again, because of that exception if there is one.
    pub fn retried(self, id: &str, exception: Option<&ExceptionInfo>, traceback: &str) {
        self.send("task-retried", id, |event| {
            let text = exception.map_or_else(|| "None".to_owned(), exception_repr);
            event.text("exception", &text).text("traceback", traceback);
        });
    }

    /// Its message was rejected.
    pub fn rejected(self, id: &str, requeue: bool) {
        self.send("task-rejected", id, |event| {
            event.value("requeue", &requeue.into());
        });
    }

    /// It expired, was revoked before it ran, or was terminated by that signal.
    pub fn revoked(self, id: &str, terminated: bool, signum: Option<i32>, expired: bool) {
        self.send("task-revoked", id, |event| {
            event
                .value("terminated", &terminated.into())
                .value("signum", &signum.into())
                .value("expired", &expired.into());
        });
    }

    /// It was ended by a cold shutdown or a lost connection.
    pub fn cancelled(self, id: &str) {
        self.send("task-cancelled", id, |_| {});
    }

    fn send(self, kind: &str, id: &str, fields: impl FnOnce(&mut Writer<'_>)) {
        if self.send {
            self.dispatcher.task(kind, id, fields);
        }
    }
}

impl std::fmt::Debug for TaskEvents<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TaskEvents").field("send", &self.send).finish_non_exhaustive()
    }
}

fn display_name(headers: &Headers) -> &str {
    let shadow = headers.shadow.as_deref().filter(|shadow| !shadow.is_empty());
    shadow.or(headers.task.as_deref()).unwrap_or_default()
}

/// Python's `str` of a value.
fn python_str(value: &Value) -> String {
    match value {
        Value::Str(text) => text.clone(),
        Value::Surrogates(text) => text.to_string(),
        other => repr::repr(other),
    }
}

/// Python's `datetime.isoformat`.
fn moment(moment: Result<Option<DateTime<Utc>>, ProtocolError>) -> Value {
    let text = |moment: DateTime<Utc>| {
        let precision =
            if moment.timestamp_subsec_micros() == 0 { SecondsFormat::Secs } else { SecondsFormat::Micros };
        moment.to_rfc3339_opts(precision, false)
    };
    moment.ok().flatten().map(text).into()
}

/// Python's `repr` of an exception: `ValueError('boom')`; a `Reject` has one of its own.
fn exception_repr(exception: &ExceptionInfo) -> String {
    if (exception.exc_module.as_deref(), exception.exc_type.as_str()) == (Some("celery.exceptions"), "Reject")
    {
        let reason = exception.exc_message.first().map_or_else(|| "None".to_owned(), python_str);
        return format!("reject requeue=False: {reason}");
    }
    let class = exception.exc_type.rsplit('.').next().unwrap_or_default();
    let args: Vec<String> = exception.exc_message.iter().map(repr::repr).collect();
    format!("{class}({})", args.join(", "))
}
