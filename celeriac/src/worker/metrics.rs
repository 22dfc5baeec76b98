//! What a worker counts, for Prometheus.
//!
//! Names and labels are those of celery-exporter, so that its dashboards and alerts read this worker as well.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};

use crate::message::{Headers, ProtocolError};

/// The counters of one worker, from [`Worker::metrics`](super::Worker::metrics); cheap to clone.
///
/// | metric | labels |
/// | --- | --- |
/// | `celery_task_received_total`, `_started_total`, `_succeeded_total`, `_retried_total`, `_rejected_total`, `_revoked_total` | `name`, `queue_name` |
/// | `celery_task_failed_total` | `name`, `queue_name`, `exception` |
/// | `celery_task_runtime`: seconds of the runs that succeeded, a histogram | `name`, `queue_name` |
/// | `celeriac_messages_refused_total`: messages that are no call of a task that is known here | `reason` |
/// | `celeriac_messages_restored_total`: messages of dead workers that this one has put back into their queues | |
///
/// All bear the node name as `hostname`. `name` is a registered task, `queue_name` one that is consumed: a sender
/// cannot make up new ones.
#[derive(Clone, Default)]
pub struct Metrics {
    /// Empty until the worker runs, since only then its node name is known.
    counters: Arc<OnceLock<Arc<Counters>>>,
}

impl Metrics {
    /// All counters in Prometheus' text format, as `/metrics` serves it; nothing before the worker runs.
    pub fn text(&self) -> String {
        self.counters.get().map_or_else(String::new, |counters| counters.text())
    }

    /// Begins to count, for a worker of that node name.
    pub(crate) fn start(&self, hostname: &str) -> prometheus::Result<Arc<Counters>> {
        let counters = Arc::new(Counters::new(hostname)?);
        Ok(Arc::clone(self.counters.get_or_init(|| counters)))
    }
}

/// The counters of a running worker.
pub(crate) struct Counters {
    registry: Registry,
    outcomes: Outcomes,
    failed: IntCounterVec,
    refused: IntCounterVec,
    /// Messages of dead workers that this one has put back into their queues.
    pub(crate) restored: IntCounter,
    /// By name, one for each queue. Only a task's first message on a queue writes here.
    tasks: RwLock<HashMap<Arc<str>, Vec<Arc<TaskCounters>>>>,
}

struct Outcomes {
    received: IntCounterVec,
    started: IntCounterVec,
    succeeded: IntCounterVec,
    retried: IntCounterVec,
    rejected: IntCounterVec,
    revoked: IntCounterVec,
    runtime: HistogramVec,
}

/// The counters of one task on one queue.
pub(crate) struct TaskCounters {
    name: Arc<str>,
    queue: Arc<str>,
    pub(crate) received: IntCounter,
    pub(crate) started: IntCounter,
    pub(crate) succeeded: IntCounter,
    pub(crate) retried: IntCounter,
    pub(crate) rejected: IntCounter,
    pub(crate) revoked: IntCounter,
    /// Seconds.
    pub(crate) runtime: Histogram,
    failed: IntCounterVec,
}

const LABELS: [&str; 2] = ["name", "queue_name"];

impl Counters {
    /// The counters of a worker of that node name, all at nought.
    fn new(hostname: &str) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let made = Maker { registry: &registry, hostname };
        let task = |outcome: &str, help: &str| made.counter(&format!("celery_task_{outcome}"), help, &LABELS);
        let runtime = HistogramOpts::new("celery_task_runtime", "Seconds of the runs that succeeded.")
            .const_label("hostname", hostname);
        let outcomes = Outcomes {
            received: task("received_total", "Messages of tasks that came in.")?,
            started: task("started_total", "Runs that began.")?,
            succeeded: task("succeeded_total", "Runs that returned.")?,
            retried: task("retried_total", "Runs that asked to be run again.")?,
            rejected: task("rejected_total", "Runs that rejected their message.")?,
            revoked: task("revoked_total", "Tasks that were revoked, expired or terminated.")?,
            runtime: made.register(HistogramVec::new(runtime, &LABELS)?)?,
        };
        let labels = ["name", "queue_name", "exception"];
        let failed = made.counter("celery_task_failed_total", "Runs that failed, by exception.", &labels)?;
        let help = "Messages that are no call of a task that is known here, by reason.";
        let refused = made.counter("celeriac_messages_refused_total", help, &["reason"])?;
        for reason in Refusal::ALL {
            refused.with_label_values(&[reason.as_str()]);
        }
        let help = "Messages of dead workers that this one has put back into their queues.";
        let options = made.options("celeriac_messages_restored_total", help);
        let restored = made.register(IntCounter::with_opts(options)?)?;
        let tasks = RwLock::default();
        Ok(Self { registry, outcomes, failed, refused, restored, tasks })
    }

    /// All counters in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            log::error!(error:% = error; "The metrics cannot be written: {error}");
        }
        String::from_utf8(text).unwrap_or_default()
    }

    /// The counters of a registered task on a queue that is consumed.
    pub(crate) fn task(&self, name: &Arc<str>, queue: &Arc<str>) -> Arc<TaskCounters> {
        let find = |known: &Vec<Arc<TaskCounters>>| known.iter().find(|task| task.queue == *queue).cloned();
        if let Some(task) = self.tasks.read().unwrap_or_else(PoisonError::into_inner).get(name).and_then(find)
        {
            return task;
        }
        let mut tasks = self.tasks.write().unwrap_or_else(PoisonError::into_inner);
        let known = tasks.entry(Arc::clone(name)).or_default();
        if let Some(task) = find(known) {
            return task;
        }
        let made = Arc::new(self.outcomes.of(name, queue, &self.failed));
        known.push(Arc::clone(&made));
        made
    }

    /// Counts a message that is no call of a task that is known here.
    pub(crate) fn refuse(&self, reason: Refusal) {
        self.refused.with_label_values(&[reason.as_str()]).inc();
    }
}

impl Outcomes {
    fn of(&self, name: &Arc<str>, queue: &Arc<str>, failed: &IntCounterVec) -> TaskCounters {
        let labels: [&str; 2] = [name, queue];
        TaskCounters {
            name: Arc::clone(name),
            queue: Arc::clone(queue),
            received: self.received.with_label_values(&labels),
            started: self.started.with_label_values(&labels),
            succeeded: self.succeeded.with_label_values(&labels),
            retried: self.retried.with_label_values(&labels),
            rejected: self.rejected.with_label_values(&labels),
            revoked: self.revoked.with_label_values(&labels),
            runtime: self.runtime.with_label_values(&labels),
            failed: failed.clone(),
        }
    }
}

impl TaskCounters {
    /// Counts a failure with an exception of that class.
    pub(crate) fn fail(&self, exception: &str) {
        self.failed.with_label_values(&[&*self.name, &*self.queue, exception]).inc();
    }
}

struct Maker<'a> {
    registry: &'a Registry,
    hostname: &'a str,
}

impl Maker<'_> {
    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(self.options(name, help), labels)?)
    }

    fn options(&self, name: &str, help: &str) -> Opts {
        Opts::new(name, help).const_label("hostname", self.hostname)
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> prometheus::Result<C> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
}

/// Why a message is refused, in a word for metrics; the log has the whole sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Envelope,
    Headers,
    ContentType,
    Encoding,
    Compression,
    Size,
    Depth,
    Body,
    Trust,
    Unregistered,
}

impl Refusal {
    const ALL: [Refusal; 10] = [
        Refusal::Envelope,
        Refusal::Headers,
        Refusal::ContentType,
        Refusal::Encoding,
        Refusal::Compression,
        Refusal::Size,
        Refusal::Depth,
        Refusal::Body,
        Refusal::Trust,
        Refusal::Unregistered,
    ];

    /// Why a message of those headers is refused; one of which nothing could be read has none.
    pub(crate) fn of(error: &ProtocolError, headers: &Headers) -> Self {
        match error {
            ProtocolError::NotJson { .. } if headers.task.is_some() => Refusal::Body,
            ProtocolError::NotJson { .. } | ProtocolError::BadEnvelope { .. } => Refusal::Envelope,
            ProtocolError::BadHeader { .. } | ProtocolError::BadTime { .. } => Refusal::Headers,
            ProtocolError::ContentDisallowed { .. } | ProtocolError::UnknownSerializer { .. } => {
                Refusal::ContentType
            }
            ProtocolError::UnknownEncoding { .. } => Refusal::Encoding,
            ProtocolError::UnknownCompression { .. } => Refusal::Compression,
            ProtocolError::TooLarge { .. } | ProtocolError::BodyTooLarge { .. } => Refusal::Size,
            ProtocolError::TooDeep { .. } => Refusal::Depth,
            ProtocolError::NotTrusted { .. } | ProtocolError::Security { .. } => Refusal::Trust,
            ProtocolError::Decode { .. }
            | ProtocolError::Encode { .. }
            | ProtocolError::BadBody { .. }
            | ProtocolError::BadSignature { .. }
            | ProtocolError::UnknownType { .. } => Refusal::Body,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Refusal::Envelope => "envelope",
            Refusal::Headers => "headers",
            Refusal::ContentType => "content_type",
            Refusal::Encoding => "encoding",
            Refusal::Compression => "compression",
            Refusal::Size => "size",
            Refusal::Depth => "depth",
            Refusal::Body => "body",
            Refusal::Trust => "trust",
            Refusal::Unregistered => "unregistered",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_told_apart_by_task_queue_and_reason() {
        let metrics = Counters::new("w@host").unwrap();
        let (name, queue): (Arc<str>, Arc<str>) = ("proj.add".into(), "celery".into());
        metrics.task(&name, &queue).received.inc();
        metrics.task(&name, &queue).fail("ValueError");
        metrics.task(&name, &"other".into()).received.inc_by(2);
        metrics.refuse(Refusal::Size);
        let text = metrics.text();
        for line in [
            r#"celery_task_received_total{hostname="w@host",name="proj.add",queue_name="celery"} 1"#,
            r#"celery_task_received_total{hostname="w@host",name="proj.add",queue_name="other"} 2"#,
            r#"celery_task_failed_total{exception="ValueError",hostname="w@host",name="proj.add",queue_name="celery"} 1"#,
            r#"celeriac_messages_refused_total{hostname="w@host",reason="size"} 1"#,
            r#"celeriac_messages_refused_total{hostname="w@host",reason="depth"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
