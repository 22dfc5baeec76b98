//! What is known about one worker.

use super::event::Event;
use crate::message::Value;

/// Heartbeats that are remembered.
const HEARTBEATS: usize = 4;
/// How many times its frequency a heartbeat lasts (`HEARTBEAT_EXPIRE_WINDOW`, 200 percent).
const EXPIRE_WINDOW: f64 = 2.0;
/// Difference of clocks in seconds that is worth a warning (`HEARTBEAT_DRIFT_MAX`).
const MAX_DRIFT: f64 = 16.0;

/// A worker as its events describe it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WorkerRecord {
    /// Node name.
    pub hostname: String,
    /// Process id.
    pub pid: Option<i64>,
    /// Seconds between two heartbeats; 60 until one told.
    pub frequency: f64,
    /// When signs of life were received last, oldest first: Unix times in seconds.
    pub heartbeats: Vec<f64>,
    /// Its logical clock.
    pub clock: u64,
    /// How many tasks run.
    pub active: Option<i64>,
    /// How many tasks were accepted since the start.
    pub processed: Option<i64>,
    /// Its machine's load averages.
    pub load_average: Vec<f64>,
    /// Name of its software.
    pub sw_ident: Option<String>,
    /// Version of its software.
    pub sw_ver: Option<String>,
    /// Name of its system.
    pub sw_sys: Option<String>,
    warned_of_drift: bool,
}

impl WorkerRecord {
    pub(super) fn new(hostname: &str) -> Self {
        Self {
            hostname: hostname.to_owned(),
            pid: None,
            frequency: 60.0,
            heartbeats: Vec::new(),
            clock: 0,
            active: None,
            processed: None,
            load_average: Vec::new(),
            sw_ident: None,
            sw_ver: None,
            sw_sys: None,
            warned_of_drift: false,
        }
    }

    /// Until when the last sign of life counts: Unix time in seconds.
    pub fn expires(&self) -> Option<f64> {
        self.heartbeats.last().map(|last| last + self.frequency * EXPIRE_WINDOW)
    }

    /// Whether the worker is alive at that Unix time.
    pub fn is_alive_at(&self, now: f64) -> bool {
        self.expires().is_some_and(|expires| now < expires)
    }

    /// Whether the worker is alive.
    pub fn is_alive(&self) -> bool {
        self.is_alive_at(super::unix_now())
    }

    /// Takes an event of this worker about itself.
    pub(super) fn update(&mut self, subject: &str, event: &Event) {
        let integer = |name: &str| event.get(name).and_then(Value::as_i64);
        let text = |name: &str| event.text(name).map(str::to_owned);
        self.pid = integer("pid").or(self.pid);
        self.frequency = event.number("freq").unwrap_or(self.frequency);
        self.clock = event.clock().unwrap_or(self.clock);
        self.active = integer("active").or(self.active);
        self.processed = integer("processed").or(self.processed);
        self.sw_ident = text("sw_ident").or(self.sw_ident.take());
        self.sw_ver = text("sw_ver").or(self.sw_ver.take());
        self.sw_sys = text("sw_sys").or(self.sw_sys.take());
        if let Some(loads) = event.get("loadavg").and_then(Value::as_list) {
            self.load_average = loads.iter().filter_map(Value::as_f64).collect();
        }
        if subject == "offline" {
            self.heartbeats.clear();
        } else {
            self.heard(event);
        }
    }

    /// Takes an event of this worker as a sign of life.
    pub(super) fn heard(&mut self, event: &Event) {
        let Some(timestamp) = event.timestamp() else { return };
        let received = event.local_received;
        let drift = (received.trunc() - timestamp.trunc()).abs();
        if drift > MAX_DRIFT && !std::mem::replace(&mut self.warned_of_drift, true) {
            log::warn!(worker_name = self.hostname.as_str(); "Substantial drift from {} may mean that clocks are out of sync: {drift} seconds", self.hostname);
        }
        if self.heartbeats.len() >= HEARTBEATS {
            self.heartbeats.remove(0);
        }
        let place = self.heartbeats.partition_point(|heartbeat| *heartbeat <= received);
        self.heartbeats.insert(place, received);
    }
}
