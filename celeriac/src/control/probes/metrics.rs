//! How a worker is now, for Prometheus, besides what it counts.
//!
//! Names and labels are those of celery-exporter where it has the same.

use nix::sys::resource::{UsageWho, getrusage};
use prometheus::{Counter, Encoder, GaugeVec, Opts, Registry, TextEncoder};

use super::watch::Watch;
use crate::control::commands::resident_bytes;
use crate::events::Dispatcher;
use crate::node::{Stage, lock};

/// All metrics of the worker, in Prometheus' text format.
pub(super) fn metrics(watch: &Watch, events: &Dispatcher) -> String {
    let registry = Registry::new();
    let mut text = Vec::new();
    let written = collect(&registry, watch, events)
        .and_then(|()| TextEncoder::new().encode(&registry.gather(), &mut text));
    if let Err(error) = written {
        log::error!(error:% = error; "The metrics cannot be written: {error}");
    }
    String::from_utf8(text).unwrap_or_default() + &watch.worker().counters()
}

fn collect(registry: &Registry, watch: &Watch, events: &Dispatcher) -> prometheus::Result<()> {
    let (worker, state) = (watch.worker(), watch.worker().state());
    let family = |name: &str, help: &str, labels: &[&str]| {
        let options = Opts::new(name, help).const_label("hostname", state.hostname.as_str());
        let family = GaugeVec::new(options, labels)?;
        registry.register(Box::new(family.clone())).map(|()| family)
    };
    let gauge = |name: &str, help: &str, number: f64| -> prometheus::Result<()> {
        family(name, help, &[])?.with_label_values::<&str>(&[]).set(number);
        Ok(())
    };
    let mut stages = [0.0, 0.0, 0.0];
    for known in state.requests().values() {
        stages[match known.stage {
            Stage::Active(_) => 0,
            Stage::Reserved => 1,
            Stage::Scheduled(_) => 2,
        }] += 1.0;
    }
    family("celeriac_worker_info", "The worker.", &["version"])?
        .with_label_values(&[env!("CARGO_PKG_VERSION")])
        .set(1.0);
    gauge("celery_worker_up", "Whether /readyz says yes.", f64::from(u8::from(watch.unready().is_empty())))?;
    gauge(
        "celeriac_worker_live",
        "Whether /livez says yes.",
        f64::from(u8::from(watch.stalled().is_none())),
    )?;
    gauge("celeriac_worker_uptime_seconds", "Time since the start.", state.started.elapsed().as_secs_f64())?;
    gauge("celery_worker_tasks_active", "Tasks that run.", stages[0])?;
    gauge("celeriac_worker_tasks_reserved", "Tasks that wait for a slot or their rate limit.", stages[1])?;
    gauge("celeriac_worker_tasks_scheduled", "Tasks that wait for their eta.", stages[2])?;
    gauge("celeriac_worker_slots", "Tasks that may run at a time.", worker.pool().max_concurrency as f64)?;
    gauge(
        "celeriac_worker_prefetch_count",
        "Messages that may be held; 0 is without limit.",
        worker.prefetch_count() as f64,
    )?;
    gauge(
        "celeriac_worker_revoked",
        "Revoked task ids that are remembered.",
        lock(&state.revoked).len() as f64,
    )?;
    gauge("celeriac_worker_events_waiting", "Events that wait to be sent.", events.waiting() as f64)?;
    let lengths = family("celery_queue_length", "Messages that wait, as last seen.", &["queue_name"])?;
    for (queue, length) in watch.lengths() {
        lengths.with_label_values(&[queue]).set(length as f64);
    }
    let help = "Messages, or 1 where they are not counted, that the broker refuses to handle now.";
    let refused = family("celeriac_worker_refused", help, &["work", "subject"])?;
    for refusal in watch.worker().refusals() {
        refused
            .with_label_values(&[refusal.work.as_str(), refusal.subject.as_str()])
            .set(refusal.count as f64);
    }
    if let Some(dead_letters) = watch.dead_letters() {
        let help = "Messages of all workers that were given up and are kept (`celeriac dead`).";
        gauge("celeriac_dead_letters", help, dead_letters.count as f64)?;
        if let Some(bytes) = dead_letters.bytes {
            gauge("celeriac_dead_letters_bytes", "Memory of the broker that they take.", bytes as f64)?;
        }
    }
    if let Some(bytes) = resident_bytes() {
        gauge("process_resident_memory_bytes", "Resident memory.", bytes)?;
    }
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let seconds = [usage.user_time(), usage.system_time()]
            .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6);
        let used = Opts::new("process_cpu_seconds_total", "Processor time.")
            .const_label("hostname", state.hostname.as_str());
        let used = Counter::with_opts(used)?;
        used.inc_by(seconds.iter().sum());
        registry.register(Box::new(used))?;
    }
    Ok(())
}
