//! How much memory a process has needed.

use nix::sys::resource::{UsageWho, getrusage};

/// The peak of a process's own resident memory.
///
/// The kernel's `ru_maxrss` is not that: across `fork` and `exec` it keeps the peak of the process that started this
/// one. The peak in `/proc/self/status` begins anew with the program; where there is none, `ru_maxrss` counts as far as
/// it has grown since the start.
pub(super) struct PeakMemory {
    inherited_kib: u64,
}

impl PeakMemory {
    /// To be called when the process starts.
    pub(super) fn new() -> Self {
        Self { inherited_kib: max_rss_kib() }
    }

    /// The peak so far in KiB.
    pub(super) fn kib(&self) -> u64 {
        if let Some(peak) =
            std::fs::read_to_string("/proc/self/status").ok().as_deref().and_then(own_peak_kib)
        {
            return peak;
        }
        let peak = max_rss_kib();
        if peak > self.inherited_kib { peak } else { 0 }
    }
}

/// The field `VmHWM` of `/proc/self/status`.
fn own_peak_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn max_rss_kib() -> u64 {
    let peak = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss());
    let peak = u64::try_from(peak).unwrap_or_default();
    if cfg!(target_vendor = "apple") { peak / 1024 } else { peak }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_the_status_of_the_process() {
        assert_eq!(own_peak_kib("VmPeak:\t 9 kB\nVmHWM:\t   8672 kB\nVmRSS:\t 8 kB\n"), Some(8672));
        assert_eq!(own_peak_kib("VmPeak:\t 9 kB\n"), None);
    }

    #[test]
    fn memory_that_was_freed_counts() {
        let memory = PeakMemory::new();
        let block = std::hint::black_box(vec![1_u8; 64 * 1024 * 1024]);
        drop(block);
        assert!(memory.kib() >= 64 * 1024);
    }
}
