//! What every task and every thread does, for SIGUSR1.
//!
//! Celery prints the stack of each Python thread (`celery/utils/debug.py`, `cry`). Here an async task has no thread, and
//! the system tells of a thread whether it runs or what it waits for.

use std::fs;
use std::path::Path;

use chrono::Utc;

use super::runtime::Runtime;
use super::threads;
use crate::node::Stage;

/// One line for each task that runs, each child process and each thread.
pub(crate) fn report(runtime: &Runtime) -> Vec<String> {
    let busy = threads::busy();
    let children = runtime.processes.pids();
    let mut lines = Vec::new();
    let mut reserved = 0;
    for known in runtime.state.requests().values() {
        let (id, name) = (known.headers.id.as_deref(), known.headers.task.as_deref());
        let (id, name) = (id.unwrap_or_default(), name.unwrap_or_default());
        let Stage::Active(since) = known.stage else {
            reserved += 1;
            continue;
        };
        let seconds = (Utc::now() - since).as_seconds_f64();
        let definition = runtime.registry.get(name);
        let place = match definition {
            Some(definition) if runtime.runs_in_process(definition) => "in a child process",
            _ if busy.iter().any(|busy| busy.context.request().id == id) => "in a thread of its own",
            _ => "on the threads of the runtime",
        };
        lines.push(format!("task {name}[{id}] has run for {seconds:.1} s {place}"));
    }
    for held in busy.iter().filter(|busy| busy.given_up) {
        let (id, name, seconds) =
            (held.context.request().id.as_str(), held.context.name(), held.since.elapsed().as_secs_f64());
        lines.push(format!(
            "function of {name}[{id}], which was given up, holds its thread for {seconds:.1} s"
        ));
    }
    let (free, waiting) = runtime.slots.load();
    let running = lines.len();
    lines.insert(0, format!("{running} task(s) run, {reserved} are reserved, of which {waiting} wait for a slot; {free} slot(s) are free"));
    lines.extend(runtime.shortage().map(|reason| format!("shortage: {reason}")));
    lines.extend(
        children.into_iter().map(|pid| {
            format!("child process {pid}: {}", condition(&Path::new("/proc").join(pid.to_string())))
        }),
    );
    lines.extend(threads_of_this_process());
    lines
}

/// One line for each thread of this process; none where the system does not tell of them.
pub(crate) fn threads_of_this_process() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let line = |path: &Path| {
        let number = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        format!("thread {number} {}: {}", name.trim(), condition(path))
    };
    paths.iter().map(|path| line(path)).collect()
}

/// State, wait channel and CPU time of a process or thread.
fn condition(path: &Path) -> String {
    let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
    // The name in parentheses may hold anything.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().collect();
    let state = match fields.first().copied() {
        Some("R") => "runs",
        Some("S") => "sleeps",
        Some("D") => "waits for a device",
        Some("T" | "t") => "is stopped",
        Some("Z") => "has ended",
        _ => "is gone",
    };
    let channel = fs::read_to_string(path.join("wchan")).unwrap_or_default();
    let channel = match channel.trim() {
        "" | "0" => String::new(),
        channel => format!(" in {channel}"),
    };
    let ticks = |index: usize| fields.get(index).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    // User and system time, in hundredths of a second on every Linux.
    let seconds = (ticks(11) + ticks(12)) as f64 / 100.0;
    format!("{state}{channel}, {seconds:.2} s of CPU")
}
