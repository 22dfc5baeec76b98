//! The resources that a process uses.

use std::fs;
use std::time::Duration;

/// The resources that a process and its children, ended ones included, have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on processors.
    pub processor: Duration,
    /// The most memory that the process itself has had, in KiB; its children are not in it.
    pub peak_kib: u64,
}

/// Clock ticks a second in `/proc`, on every Linux that Rust runs on.
const TICKS: u64 = 100;

impl Usage {
    /// Looks at a process; nothing was taken by one that is gone.
    pub fn of(process: u32) -> Self {
        let own = ticks(process);
        let children: u64 = children_of(process).into_iter().map(ticks).sum();
        Self {
            processor: Duration::from_millis((own + children) * 1000 / TICKS),
            peak_kib: peak_kib(process).unwrap_or_default(),
        }
    }
}

/// The fields of `/proc/PID/stat` that follow the program's name, which may hold blanks.
fn stat(process: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

/// `utime` and `stime`, and `cutime` and `cstime` of children that were waited for.
fn ticks(process: u32) -> u64 {
    let fields = stat(process).unwrap_or_default();
    fields.iter().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn children_of(process: u32) -> Vec<u32> {
    let parent = process.to_string();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|child| stat(*child).is_some_and(|fields| fields.get(1) == Some(&parent)))
        .collect()
}

fn peak_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}
