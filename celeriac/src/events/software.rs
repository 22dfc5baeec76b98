//! What this program and this machine say about themselves.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::Offset;

/// Name of this software in events.
pub(super) const IDENT: &str = "celeriac";
/// Its version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The system's name as Python's `platform.system()` gives it.
pub(crate) fn system() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        "windows" => "Windows",
        other => other,
    }
}

/// The load averages over 1, 5 and 15 minutes; zeros where the system does not tell.
pub(crate) fn load_average() -> [f64; 3] {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut loads = text.split_whitespace().map(|load| load.parse().unwrap_or(0.0));
    std::array::from_fn(|_| loads.next().unwrap_or(0.0))
}

/// Unix time in seconds.
pub(crate) fn unix_now() -> f64 {
    unix_time().as_secs_f64()
}

/// Unix time in whole microseconds.
pub(super) fn unix_time() -> Duration {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::new(elapsed.as_secs(), elapsed.subsec_micros() * 1000)
}

/// Hours west of UTC, as events carry them (`celery/utils/time.py` `utcoffset`).
pub(super) fn utc_offset() -> f64 {
    let east = chrono::Local::now().offset().fix().local_minus_utc();
    // Not minus zero, which JSON would show.
    if east == 0 { 0.0 } else { f64::from(-east) / 3600.0 }
}
